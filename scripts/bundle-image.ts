// Writes what an image adds to its base: `node scripts/bundle-image.ts operator|runtime FOLDER` (FOLDER becomes /).
// Every program becomes one JavaScript file at its source's place, so that what it looks for beside itself (workers, descriptors, the addon) is where the sources
// have it. Packages that read files of their own stay packages.

import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Plugin } from 'esbuild';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

interface ImageContents {
  /** Started by people and pods: program name to source. */
  readonly programs: Readonly<Record<string, string>>;
  /** A flag of Node for a program: an interpreter line takes one. */
  readonly flags?: Readonly<Record<string, string>>;
  /** Sources that a program loads by their address, not by an import. */
  readonly loaded: readonly string[];
  readonly files: readonly string[];
}

export const IMAGES: Readonly<Record<'operator' | 'runtime', ImageContents>> = {
  operator: {
    programs: {
      'internvl-operator': 'operator/main.ts',
      'internvl-router': 'router/main.ts',
      internvl: 'cli/main.ts',
    },
    // The operator's garbage is short-lived: room for less of it makes collections more frequent, not longer, and is up to 40 MiB less memory.
    // What the router's is, its pods say (operator/resources/router-memory.ts): a flag here would come before it.
    flags: { 'internvl-operator': '--optimize-for-size' },
    loaded: ['router/background-worker.ts'],
    files: ['package.json', 'gen/descriptors.binpb', 'crds/internvldeployments.yaml'],
  },
  runtime: {
    // The command line for `internvl preflight`, which has to run where ranks run.
    programs: { 'internvl-runtime': 'runtime/main.ts', internvl: 'cli/main.ts' },
    loaded: [
      'runtime/engine-thread/worker.ts',
      'runtime/image/worker.ts',
      'runtime/preflight/probe-worker.ts',
      'local/child-guard.ts',
    ],
    files: ['package.json', 'gen/descriptors.binpb', 'build/native/internvl_native.node'],
  },
};

// They find .proto files or shared objects relative to their own files.
const UNBUNDLED = ['@grpc/grpc-js', '@grpc/proto-loader', '@grpc/reflection', 'grpc-health-check', 'sharp'];
// yargs serves only the command line of @grpc/proto-loader.
const NEVER_LOADED = new Set(['yargs', '@types/node']);

const HOME = 'opt/internvl';
const PATH = 'usr/local/bin';

/** Writes an image's own files into `folder`, which is emptied. Throws where a source or file is missing. */
export async function bundleImage(image: ImageContents, folder: string): Promise<void> {
  rmSync(folder, { recursive: true, force: true });
  const home = join(folder, HOME);
  const path = join(folder, PATH);
  mkdirSync(path, { recursive: true });
  cpSync(join(ROOT, 'node_modules/node/bin/node'), join(path, 'node'));
  const packages = new Set<string>();
  for (const [program, source] of Object.entries(image.programs)) {
    const flag = image.flags?.[program];
    const firstLine = `#!/${PATH}/node${flag === undefined ? '' : ` ${flag}`}\n`;
    const outfile = await bundleProgram(source, home, packages, firstLine);
    chmodSync(outfile, 0o755);
    symlinkSync(`/${HOME}/${relative(home, outfile)}`, join(path, program));
  }
  for (const source of image.loaded) await bundleProgram(source, home, packages, '');
  for (const file of image.files) {
    mkdirSync(dirname(join(home, file)), { recursive: true });
    cpSync(join(ROOT, file), join(home, file));
  }
  for (const name of closure(packages)) copyPackage(name, home);
}

async function bundleProgram(
  source: string,
  folder: string,
  packages: Set<string>,
  firstLine: string,
): Promise<string> {
  const outfile = join(folder, source.replace(/\.ts$/, '.js'));
  const root = relative(dirname(source), '.') || '.';
  const result = await build({
    entryPoints: [join(ROOT, source)],
    absWorkingDir: ROOT,
    outfile,
    bundle: true,
    platform: 'node',
    target: 'node24',
    format: 'esm',
    // Names stay readable in stack traces and profiles.
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'none',
    metafile: true,
    logLevel: 'error',
    external: UNBUNDLED,
    plugins: [addressesOfSources, clusterAccessAlone],
    // CommonJS packages inside an ECMAScript module still call require.
    banner: {
      js: `${firstLine}import { createRequire as internvlCreateRequire } from 'node:module';
const require = internvlCreateRequire(import.meta.url);
const internvlRoot = new URL(${JSON.stringify(`${root}/`)}, import.meta.url);`,
    },
  });
  for (const { imports } of Object.values(result.metafile.outputs)) {
    for (const { path, external } of imports) {
      const name = UNBUNDLED.find((candidate) => path === candidate || path.startsWith(`${candidate}/`));
      if (external === true && name !== undefined) packages.add(name);
    }
  }
  return outfile;
}

/** `import.meta` of our own sources stays the address that the source would have, whatever file its code lands in. */
const addressesOfSources: Plugin = {
  name: 'addresses-of-sources',
  setup(building) {
    building.onLoad({ filter: /\.ts$/ }, ({ path }) => {
      const text = readFileSync(path, 'utf8');
      const place = relative(ROOT, path).split(sep).join('/');
      if (place.startsWith('node_modules/') || !text.includes('import.meta.')) return undefined;
      const url = `new URL(${JSON.stringify(place.replace(/\.ts$/, '.js'))}, internvlRoot)`;
      const contents = text
        .replaceAll('import.meta.url', `${url}.href`)
        .replaceAll('import.meta.filename', `${url}.pathname`)
        .replaceAll('import.meta.dirname', `new URL('.', ${url}).pathname.slice(0, -1)`);
      return { contents, loader: 'ts' };
    });
  },
};

/**
 * Of client-node only the reading of kubeconfigs and credentials is used, a twentieth of it. Its modules only declare things, which its manifest does not
 * say; and its HTTP client undici, loaded for proxies of calls that are never made through it, takes more memory than all of the operator's code.
 */
const clusterAccessAlone: Plugin = {
  name: 'cluster-access-alone',
  setup(building) {
    const asked = Symbol('asked');
    building.onResolve({ filter: /^(@kubernetes\/client-node$|\.)/ }, async (args) => {
      if (args.pluginData === asked) return undefined;
      if (args.path.startsWith('.') && !args.importer.includes('/@kubernetes/client-node/')) return undefined;
      const { importer, resolveDir, kind, path } = args;
      const resolved = await building.resolve(path, { importer, resolveDir, kind, pluginData: asked });
      return { path: resolved.path, errors: resolved.errors, sideEffects: false };
    });
    building.onResolve({ filter: /^undici$/ }, ({ importer, path }) =>
      importer.includes('/@kubernetes/client-node/')
        ? { path, namespace: 'left-out', sideEffects: false }
        : undefined,
    );
    building.onLoad({ filter: /^undici$/, namespace: 'left-out' }, () => ({
      contents: `class LeftOut { constructor() { throw new Error('undici is left out of this program'); } }
        export { LeftOut as Agent, LeftOut as ProxyAgent };
        export const fetch = () => { throw new Error('undici is left out of this program'); };`,
    }));
  },
};

/** The packages and all that they depend on; optional ones where they are installed. */
function closure(packages: ReadonlySet<string>): Set<string> {
  const found = new Set<string>();
  const visit = (name: string): void => {
    if (found.has(name) || NEVER_LOADED.has(name)) return;
    const manifest = join(ROOT, 'node_modules', name, 'package.json');
    if (!existsSync(manifest)) return; // an optional dependency of another platform
    found.add(name);
    const { dependencies = {}, optionalDependencies = {} } = JSON.parse(readFileSync(manifest, 'utf8')) as {
      dependencies?: Record<string, string>;
      optionalDependencies?: Record<string, string>;
    };
    for (const dependency of [...Object.keys(dependencies), ...Object.keys(optionalDependencies)])
      visit(dependency);
  };
  for (const name of packages) visit(name);
  // Images are built on Debian, whose C library is glibc.
  return new Set([...found].filter((name) => !/^@img\/.*(musl|wasm|darwin|win32)/.test(name)));
}

function copyPackage(name: string, folder: string): void {
  const from = join(ROOT, 'node_modules', name);
  cpSync(from, join(folder, 'node_modules', name), {
    recursive: true,
    filter: (path) => !/\.(d\.[cm]?ts|[cm]?js\.map|ts\.map|md)$/.test(path),
  });
}

if (import.meta.main) {
  const [name, folder] = process.argv.slice(2);
  if ((name !== 'operator' && name !== 'runtime') || folder === undefined) {
    process.stderr.write('usage: node scripts/bundle-image.ts operator|runtime FOLDER\n');
    process.exitCode = 2;
  } else {
    await bundleImage(IMAGES[name], folder);
  }
}
