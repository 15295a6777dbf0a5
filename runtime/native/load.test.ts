import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';

const root = mkdtempSync(join(tmpdir(), 'native-load-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** A copy of the loader in a folder of its own, where `build/native` is what the test makes it. */
function loadIn(folder: string): { name: string; code: string; message: string } {
  const sources = join(folder, 'runtime/native');
  mkdirSync(sources, { recursive: true });
  for (const file of ['errors.ts', 'index.ts', 'load.ts'])
    copyFileSync(join(import.meta.dirname, file), join(sources, file));
  const script = `import { native } from ${JSON.stringify(join(sources, 'index.ts'))};
    try { native(); } catch (error) { console.log(JSON.stringify({ name: error.name, code: error.code, message: error.message })); }`;
  const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
  return JSON.parse(output) as { name: string; code: string; message: string };
}

describe('loading the addon', () => {
  it('says what to do when it is not built', () => {
    const error = loadIn(join(root, 'absent'));
    expect(error).toMatchObject({ name: 'NativeUnavailable', code: 'native_unavailable' });
    expect(error.message).toMatch(
      /build\/native\/internvl_native\.node was not found .*run npm run build:native/,
    );
  });

  it('says what to do when it cannot be loaded', () => {
    const folder = join(root, 'broken');
    mkdirSync(join(folder, 'build/native'), { recursive: true });
    writeFileSync(join(folder, 'build/native/internvl_native.node'), 'not a shared object');
    const error = loadIn(folder);
    expect(error).toMatchObject({ name: 'NativeUnavailable', code: 'native_unavailable' });
    expect(error.message).toMatch(
      /^cannot load .*broken\/build\/native\/internvl_native\.node: .*run npm run build:native$/s,
    );
  });
});
