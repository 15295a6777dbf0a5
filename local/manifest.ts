// A manifest file as a checked deployment with its defaults applied. All that is wrong with it is told at once.
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import { LineCounter, parseAllDocuments, type Document } from 'yaml';
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { readCrdSchema, strict } from './crd-schema.ts';
import { ManifestError } from './manifest-error.ts';

/** Reads the text of a manifest; `file` is what messages call it. Throws ManifestError. */
export function parseManifest(text: string, file: string): InternVLDeployment {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false });
  // An empty stream comes back as an array with a flag on it.
  const present = [...documents].filter(
    (document) => document.contents !== null || document.errors.length > 0,
  );
  const syntax = present.flatMap(({ errors }) => errors);
  if (syntax.length > 0)
    throw new ManifestError(
      syntax.map(({ pos, message }) => `${file}:${position(lines, pos[0])}: not YAML: ${message}`),
    );
  const [document, second] = present;
  if (document === undefined)
    throw new ManifestError([`${file}: is empty; it must hold an InternVLDeployment`]);
  if (second !== undefined)
    throw new ManifestError([
      `${file}: holds ${present.length} documents; it must hold one InternVLDeployment`,
    ]);
  return validate(document, file, lines);
}

// Compiling the schema costs more than all else here.
let compiled: ValidateFunction<InternVLDeployment> | undefined;

function compile(): ValidateFunction<InternVLDeployment> {
  const ajv = new Ajv({
    allErrors: true,
    useDefaults: true,
    strict: false,
    verbose: true,
    validateFormats: false,
  });
  return ajv.compile<InternVLDeployment>(strict(readCrdSchema()));
}

function validate(document: Document.Parsed, file: string, lines: LineCounter): InternVLDeployment {
  const value: unknown = document.toJS({ maxAliasCount: 100 });
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new ManifestError([`${file}: found ${show(value)}; it must be an InternVLDeployment object`]);
  const check = (compiled ??= compile());
  check(value);
  const problems: Problem[] = [...describe(check.errors ?? [])];
  problems.push(...crossFieldProblems(value));
  if (problems.length > 0)
    throw new ManifestError(
      problems.map(
        ({ path, text }) => `${file}:${positionOf(document, lines, path)}: ${dotted(path)}: ${text}`,
      ),
    );
  return value as unknown as InternVLDeployment;
}

interface Problem {
  readonly path: readonly string[];
  readonly text: string;
}

/** The CEL rules of the CRD that matter on one machine, which the schema alone cannot say. The document may be wrong in other ways. */
function crossFieldProblems(document: object): Problem[] {
  const problems: Problem[] = [];
  const size = field(document, 'spec', 'tensorParallel', 'size');
  if (typeof size === 'number' && size >= 1 && size <= 8 && ![1, 2, 4, 8].includes(size))
    problems.push({
      path: ['spec', 'tensorParallel', 'size'],
      text: `found ${size}; allowed: 1, 2, 4, 8: the model has 56 query heads and 8 key-value heads, and every rank takes an equal share`,
    });
  const kvCache = field(document, 'spec', 'engine', 'kvCache');
  if (field(kvCache, 'fraction') !== undefined && field(kvCache, 'bytes') !== undefined)
    problems.push({
      path: ['spec', 'engine', 'kvCache'],
      text: 'found fraction and bytes; give one of them',
    });
  const fraction = field(kvCache, 'fraction');
  if (typeof fraction === 'number' && fraction >= 0 && fraction <= 1 && (fraction < 0.01 || fraction > 0.95))
    problems.push({
      path: ['spec', 'engine', 'kvCache', 'fraction'],
      text: `found ${fraction}; must be from 0.01 to 0.95`,
    });
  const sequences = field(document, 'spec', 'engine', 'maxSequences');
  const tokens = field(document, 'spec', 'engine', 'maxBatchedTokens');
  if (typeof sequences === 'number' && typeof tokens === 'number' && tokens < sequences)
    problems.push({
      path: ['spec', 'engine', 'maxBatchedTokens'],
      text: `found ${tokens}; must be >= maxSequences, which is ${sequences}: every running sequence needs one token of a step`,
    });
  const device = field(document, 'spec', 'device');
  const names = ['resourceName', 'deviceClassName'].filter((name) => field(device, name) !== undefined);
  if (typeof device === 'object' && device !== null && names.length !== 1)
    problems.push({
      path: ['spec', 'device'],
      text: `found ${names.length === 0 ? 'neither' : names.join(' and ')}; give exactly one of resourceName and deviceClassName`,
    });
  return problems;
}

function field(value: unknown, ...path: readonly string[]): unknown {
  let node = value;
  for (const name of path) {
    if (typeof node !== 'object' || node === null) return undefined;
    node = (node as Record<string, unknown>)[name];
  }
  return node;
}

/** One problem for each thing that is wrong: alternatives of anyOf and repeats are folded. */
function describe(errors: readonly ErrorObject[]): Problem[] {
  const problems = new Map<string, Problem>();
  for (const error of errors) {
    const problem = describeOne(error);
    if (problem === undefined) continue;
    const key = problem.path.join('/') + problem.text;
    problems.set(key, problem);
  }
  return [...problems.values()];
}

function describeOne(error: ErrorObject): Problem | undefined {
  const path = error.instancePath.split('/').slice(1).map(unescapePointer);
  const found = `found ${show(error.data)}`;
  const params = error.params as Readonly<Record<string, unknown>>;
  switch (error.keyword) {
    case 'additionalProperties': {
      const allowed = Object.keys((error.parentSchema?.['properties'] as object | undefined) ?? {});
      const name = String(params['additionalProperty']);
      return { path: [...path, name], text: `unknown field; allowed here: ${allowed.toSorted().join(', ')}` };
    }
    case 'required':
      return { path: [...path, String(params['missingProperty'])], text: 'is missing' };
    case 'enum':
      return {
        path,
        text: `${found}; allowed: ${(params['allowedValues'] as unknown[]).map(show).join(', ')}`,
      };
    case 'const':
      return { path, text: `${found}; must be ${show(params['allowedValue'])}` };
    case 'type':
      // The branches of an int-or-string; anyOf itself reports it.
      if (error.schemaPath.includes('/anyOf/')) return undefined;
      return { path, text: `${found}; must be ${article(String(params['type']))}` };
    case 'anyOf':
      return { path, text: `${found}; must be a number or a quantity such as "8Gi"` };
    case 'pattern':
      return { path, text: `${found}; must match ${String(params['pattern'])}` };
    case 'minimum':
    case 'maximum':
      return { path, text: `${found}; must be ${String(params['comparison'])} ${String(params['limit'])}` };
    default:
      return { path, text: `${found}; ${error.message ?? error.keyword}` };
  }
}

function article(type: string): string {
  return /^[aeio]/.test(type) ? `an ${type}` : `a ${type}`;
}

function unescapePointer(segment: string): string {
  return segment.replaceAll('~1', '/').replaceAll('~0', '~');
}

function dotted(path: readonly string[]): string {
  return path.length === 0 ? 'the document' : path.join('.');
}

function show(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** LINE:COLUMN of the field, or of the nearest thing around it that the file holds. */
function positionOf(document: Document.Parsed, lines: LineCounter, path: readonly string[]): string {
  for (let length = path.length; length > 0; length--) {
    const node: unknown = document.getIn(path.slice(0, length), true);
    const range = (node as { range?: readonly number[] | null } | undefined)?.range;
    if (range?.[0] !== undefined) return position(lines, range[0]);
  }
  return position(lines, document.range[0]);
}

function position(lines: LineCounter, offset: number): string {
  const { line, col } = lines.linePos(offset);
  return `${Math.max(line, 1)}:${Math.max(col, 1)}`;
}
