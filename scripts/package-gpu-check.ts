// Packs gpu-check with all that a bare machine with a GPU lacks: Node, the addon and its libraries, the demo model.
// `node scripts/package-gpu-check.ts [FILE]` writes build/gpu-check.tar.xz, or FILE; see docs/cuda.md for what to do with it.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundleImage } from './bundle-image.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const ADDON = 'build/native/internvl_native.node';
/** What the archive may weigh. */
const MOST_BYTES = 60e6;
/** Every glibc system has them, in the version that its own programs need. */
const OF_THE_SYSTEM = /^(linux-vdso|ld-linux-x86-64|lib(c|m|dl|rt|pthread))\.so/;
const WITHOUT_SYSTEM = /^lib(stdc\+\+|gcc_s)\.so/;

/** The shared libraries that a file needs, by name: their paths. */
function librariesOf(file: string): Map<string, string> {
  const lines = execFileSync('ldd', [file], { encoding: 'utf8' }).split('\n');
  const found = lines.map((line) => /^\s*(\S+) => (\/\S+)/.exec(line)).filter((match) => match !== null);
  return new Map(found.map((match) => [match[1] as string, match[2] as string]));
}

/** Throws where the addon has no CUDA in it. */
function requireCuda(): void {
  const text = execFileSync(
    process.execPath,
    [
      '-e',
      `try { require(${JSON.stringify(join(ROOT, ADDON))}).useDevice('cuda', 0) } catch (e) { console.log(e.message) }`,
    ],
    { encoding: 'utf8' },
  );
  if (text.includes('npm run build:cuda'))
    throw new Error('the addon is built without CUDA: run npm run build:cuda');
}

async function main(archive: string): Promise<void> {
  requireCuda();
  const work = join(ROOT, 'build/gpu-check.work');
  const folder = join(work, 'gpu-check');
  const image = join(work, 'image');
  await bundleImage(
    {
      programs: { 'gpu-check': 'gpu-check/main.ts' },
      // The benches start a replica and a router, as they are deployed, and engines to compare.
      loaded: [
        'gpu-check/device-child.ts',
        'bench/peers/engine-ours.ts',
        'runtime/main.ts',
        'runtime/engine-thread/worker.ts',
        'runtime/image/worker.ts',
        'router/main.ts',
        'router/background-worker.ts',
      ],
      files: ['package.json', ADDON, 'gen/descriptors.binpb', 'bench/peers/engine-pytorch.py'],
    },
    image,
  );
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, 'lib/without-system'), { recursive: true });
  const program = join(folder, 'gpu-check-program');
  renameSync(join(image, 'opt/internvl'), program);
  copyFileSync(join(image, 'usr/local/bin/node'), join(folder, 'node'));
  cpSync(join(ROOT, 'examples/demo-model'), join(program, 'examples/demo-model'), { recursive: true });
  execFileSync('strip', ['--strip-unneeded', join(program, ADDON)]);
  for (const [name, path] of librariesOf(join(program, ADDON))) {
    if (OF_THE_SYSTEM.test(name)) continue;
    copyFileSync(
      realpathSync(path),
      join(folder, WITHOUT_SYSTEM.test(name) ? 'lib/without-system' : 'lib', name),
    );
  }
  copyFileSync(join(ROOT, 'gpu-check/launcher.sh'), join(folder, 'gpu-check'));
  chmodSync(join(folder, 'gpu-check'), 0o755);
  mkdirSync(dirname(archive), { recursive: true });
  execFileSync('tar', ['-cf', archive, '-I', 'xz -T0 -6', '-C', work, basename(folder)], {
    stdio: 'inherit',
  });
  rmSync(work, { recursive: true });
  const { size } = statSync(archive);
  process.stdout.write(`${archive}: ${(size / 1e6).toFixed(1)} MB\n`);
  if (size > MOST_BYTES) throw new Error(`${archive} is larger than ${MOST_BYTES / 1e6} MB`);
}

await main(resolve(process.argv[2] ?? join(ROOT, 'build/gpu-check.tar.xz')));
