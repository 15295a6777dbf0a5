// What is asked: questions and pictures drawn from a seed, so that a run can be repeated. What requests share decides what caches can save.
import { readFileSync } from 'node:fs';
import { InvalidArgumentError } from 'commander';
import sharp from 'sharp';
import { Priority, type GenerateRequest } from '../../gen/proto/internvl/v1/inference.ts';
import { toMessages, toSampling, type Turn } from '../../cli/conversation.ts';
import { uniform } from '../../runtime/engine/seeded-random.ts';

/** unique: nothing in common; shared-prefix: one of a few long system messages; shared-image: one of the example pictures. */
export type Mix = 'unique' | 'shared-prefix' | 'shared-image';
export type Mixes = ReadonlyMap<Mix, number>;

export interface WorkloadOptions {
  readonly mixes: Mixes;
  /** Share of the requests with a picture of their own, 0..1; shared-image has one always. */
  readonly pictures: number;
  readonly promptWords: number;
  readonly outputTokens: number;
  /** Of 32 bits; each seed has requests of its own. */
  readonly seed: number;
}

/** A request before its picture is drawn; a picture is one of the examples, or one to draw from a number. */
export interface Ask {
  readonly system: string | undefined;
  readonly question: string;
  readonly picture: { readonly example: number } | { readonly draw: number } | undefined;
}

const MIXES: readonly Mix[] = ['unique', 'shared-prefix', 'shared-image'];
const EXAMPLES = ['shapes', 'square-and-circle', 'two-circles', 'four-colours'];
const SHARED_PREFIXES = 4;
/** Beyond the number of any request. */
const PREFIX_STREAMS = 2 ** 32 - 16;
const SIDE = 448;
const WORDS =
  'red blue green large small circle square star line left right above below near far light dark round many few'.split(
    ' ',
  );

/** Reads `unique` or `unique:3,shared-prefix:1`: kinds of requests and their weights. */
export function parseMixes(text: string): Mixes {
  const mixes = new Map<Mix, number>();
  for (const part of text.split(',')) {
    const [name = '', weight = '1'] = part.split(':');
    const mix = MIXES.find((known) => known === name);
    if (mix === undefined)
      throw new InvalidArgumentError(`'${name}' is no mix; there are ${MIXES.join(', ')}.`);
    if (!(Number(weight) > 0) || !Number.isFinite(Number(weight)))
      throw new InvalidArgumentError(`'${part}': a weight must be above 0.`);
    mixes.set(mix, (mixes.get(mix) ?? 0) + Number(weight));
  }
  return mixes;
}

/** What request `index` asks. Pure. */
export function askOf(index: number, options: WorkloadOptions): Ask {
  const { seed, promptWords, pictures } = options;
  const own = streamOf(seed, index);
  const draw = (what: number) => uniform(own, what);
  const mix = pick(options.mixes, draw(0));
  const words = (count: number, from: bigint) =>
    Array.from({ length: count }, (_, i) => WORDS[Math.floor(uniform(from, i) * WORDS.length)]).join(' ');
  if (mix === 'shared-prefix') {
    const prefix = Math.floor(draw(1) * SHARED_PREFIXES);
    return {
      system: words(promptWords, streamOf(seed, PREFIX_STREAMS + prefix)),
      question: `${index}: ${words(8, own)}?`,
      picture: draw(2) < pictures ? { draw: index } : undefined,
    };
  }
  const question = `${index}: ${words(promptWords, own)}?`;
  if (mix === 'shared-image')
    return { system: undefined, question, picture: { example: Math.floor(draw(1) * EXAMPLES.length) } };
  return { system: undefined, question, picture: draw(2) < pictures ? { draw: index } : undefined };
}

/** The random numbers of one request: no two of a seed, and no two seeds, share them. */
function streamOf(seed: number, index: number): bigint {
  return (BigInt(seed) << 32n) + BigInt(index);
}

function pick(mixes: Mixes, at: number): Mix {
  let left = at * [...mixes.values()].reduce((sum, weight) => sum + weight, 0);
  for (const [mix, weight] of mixes) {
    left -= weight;
    if (left < 0) return mix;
  }
  return [...mixes.keys()].at(-1) ?? 'unique';
}

/** Makes requests. */
export class Workload {
  readonly #options: WorkloadOptions;
  readonly #examples = new Map<number, Uint8Array>();

  constructor(options: WorkloadOptions) {
    this.#options = options;
  }

  async request(index: number): Promise<GenerateRequest> {
    const { system, question, picture } = askOf(index, this.#options);
    const turns: Turn[] = [{ role: 'user', content: question }];
    if (system !== undefined) turns.unshift({ role: 'system', content: system });
    return {
      requestId: '',
      model: '',
      messages: toMessages(turns, picture === undefined ? [] : [await this.#picture(picture)]),
      sampling: toSampling({ maxTokens: this.#options.outputTokens, temperature: 0, ignoreEos: true }),
      output: undefined,
      priority: Priority.UNSPECIFIED,
      affinityKey: '',
      cacheSalt: '',
    };
  }

  async #picture(picture: NonNullable<Ask['picture']>): Promise<Uint8Array> {
    if ('draw' in picture) return await drawPicture(streamOf(this.#options.seed, picture.draw));
    const known = this.#examples.get(picture.example);
    if (known !== undefined) return known;
    const file = `../../examples/pictures/${EXAMPLES[picture.example]}.png`;
    const bytes = readFileSync(new URL(file, import.meta.url));
    this.#examples.set(picture.example, bytes);
    return bytes;
  }
}

/** A PNG of eight coloured rectangles: a file of its own for each stream of random numbers. */
async function drawPicture(stream: bigint): Promise<Uint8Array> {
  const number = (position: number, below: number) => Math.floor(uniform(stream, 100 + position) * below);
  const rectangles = Array.from({ length: 8 }, (_, i) => {
    const at = (offset: number, below: number) => number(i * 5 + offset, below);
    const colour = at(4, 0x1000000).toString(16).padStart(6, '0');
    return `<rect x="${at(0, 400)}" y="${at(1, 400)}" width="${20 + at(2, 200)}" height="${20 + at(3, 200)}" fill="#${colour}"/>`;
  });
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${SIDE}" height="${SIDE}">${rectangles.join('')}</svg>`;
  return await sharp(Buffer.from(svg)).flatten({ background: '#fff' }).png().toBuffer();
}
