// What a run of gpu-check writes down.
import type { DeviceInfo } from '../runtime/native/index.ts';
import type { Row as BenchRow } from '../bench/results.ts';
import type { Machine } from './machine.ts';

export interface CheckResult {
  readonly name: string;
  readonly passed: boolean;
  /** How close it was, or what went wrong. */
  readonly note: string;
}

export type Row =
  | ({ readonly kind: 'machine' } & Machine)
  | { readonly kind: 'no device'; readonly reason: string }
  | ({ readonly kind: 'device' } & Omit<DeviceInfo, 'kind'>)
  | ({ readonly kind: 'check' } & CheckResult)
  | ({ readonly kind: 'bench' } & BenchRow);

/** What checks need to know. */
export interface CheckOptions {
  readonly device: number;
  readonly only: string;
  /** The demo model's folder. */
  readonly model: string;
}
