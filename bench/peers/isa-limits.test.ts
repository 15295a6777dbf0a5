import { mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ISA_LIMITS } from '../isa-limit.ts';
import { aboutLimit, llamaBackends, PYTORCH_ENVIRONMENT } from './isa-limits.ts';

describe('llamaBackends', () => {
  let folder = '';
  beforeEach(() => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'isa-limits-')));
    mkdirSync(join(folder, 'bins'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('leaves the one backend of the limit', () => {
    for (const processor of ['haswell', 'skylakex', 'zen4', 'x64'])
      writeFileSync(join(folder, 'bins', `libggml-cpu-${processor}.so`), processor);
    const backends = llamaBackends(join(folder, 'bins/addon.node'), join(folder, 'one'), 'avx2');
    expect(readdirSync(backends)).toEqual(['libggml-cpu-haswell.so']);
    expect(realpathSync(join(backends, 'libggml-cpu-haswell.so'))).toBe(
      join(folder, 'bins/libggml-cpu-haswell.so'),
    );
  });

  it('says so when the addon came without it', () =>
    expect(() => llamaBackends(join(folder, 'bins/addon.node'), join(folder, 'one'), 'avx2')).toThrow(
      /^it cannot be held to avx2: no .*libggml-cpu-haswell\.so$/,
    ));
});

describe('aboutLimit', () => {
  it.each(ISA_LIMITS)('tells how each engine is held to %s', (limit) => {
    const about = aboutLimit(limit);
    for (const [name, value] of Object.entries(PYTORCH_ENVIRONMENT[limit]))
      expect(about).toContain(`${name}=${value}`);
    expect(about).toContain('INTERNVL_MAX_CPU_ISA');
    expect(about).toContain('libggml-cpu-');
  });

  it('is silent without one', () => expect(aboutLimit(undefined)).toBe(''));
});
