// What the checking process and its children, one for each device, say to each other.
import type { DeviceInfo } from '../runtime/native/index.ts';
import type { Row as BenchRow } from '../bench/results.ts';

export type Task =
  | { readonly type: 'case'; readonly index: number }
  | { readonly type: 'answers'; readonly dtype: 'float32' | 'bfloat16'; readonly model: string }
  | { readonly type: 'bench'; readonly name: string };

export type Reply =
  | { readonly type: 'ready'; readonly info: DeviceInfo }
  | { readonly type: 'results'; readonly values: readonly Float32Array[] }
  | { readonly type: 'answers'; readonly tokens: readonly (readonly number[])[] }
  | { readonly type: 'rows'; readonly rows: readonly BenchRow[] }
  | { readonly type: 'failed'; readonly message: string };
