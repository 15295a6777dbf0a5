// How peers are held to the instruction set that ours is held to.
import { existsSync, mkdirSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { IsaLimit } from '../isa-limit.ts';

/** What PyTorch's own kernels, oneDNN and MKL in it read when they are loaded. MKL heeds it on Intel's processors alone. */
export const PYTORCH_ENVIRONMENT: Readonly<Record<IsaLimit, Readonly<Record<string, string>>>> = {
  avx512_bf16: {
    ATEN_CPU_CAPABILITY: 'avx512',
    ONEDNN_MAX_CPU_ISA: 'AVX512_CORE_BF16',
    MKL_ENABLE_INSTRUCTIONS: 'AVX512',
  },
  avx512: {
    ATEN_CPU_CAPABILITY: 'avx512',
    ONEDNN_MAX_CPU_ISA: 'AVX512_CORE',
    MKL_ENABLE_INSTRUCTIONS: 'AVX512',
  },
  avx2: { ATEN_CPU_CAPABILITY: 'avx2', ONEDNN_MAX_CPU_ISA: 'AVX2', MKL_ENABLE_INSTRUCTIONS: 'AVX2' },
  scalar: {
    ATEN_CPU_CAPABILITY: 'default',
    ONEDNN_MAX_CPU_ISA: 'SSE41',
    MKL_ENABLE_INSTRUCTIONS: 'SSE4_2',
  },
};

/** llama.cpp's CPU backends, each a library built for a processor: the one that has these instructions and no more. */
const LLAMA_BACKENDS: Readonly<Record<IsaLimit, string>> = {
  avx512_bf16: 'libggml-cpu-cooperlake.so',
  avx512: 'libggml-cpu-skylakex.so',
  avx2: 'libggml-cpu-haswell.so',
  scalar: 'libggml-cpu-x64.so',
};

/** A new folder, `folder`, with the one backend in it. Throws when the addon came without it. */
export function llamaBackends(addon: string, folder: string, limit: IsaLimit): string {
  const backend = join(dirname(addon), LLAMA_BACKENDS[limit]);
  if (!existsSync(backend)) throw new Error(`it cannot be held to ${limit}: no ${backend}`);
  mkdirSync(folder);
  symlinkSync(backend, join(folder, LLAMA_BACKENDS[limit]));
  return folder;
}

/** For the page. */
export function aboutLimit(limit: IsaLimit | undefined): string {
  if (limit === undefined) return '';
  const environment = Object.entries(PYTORCH_ENVIRONMENT[limit]).map(([name, value]) => `${name}=${value}`);
  return `
Every engine is held to ${limit}: ours by \`INTERNVL_MAX_CPU_ISA\`, PyTorch by \`${environment.join(' ')}\` (of MKL, which multiplies its float32,
on Intel's processors alone), llama.cpp by \`${LLAMA_BACKENDS[limit]}\` as its only backend.`;
}
