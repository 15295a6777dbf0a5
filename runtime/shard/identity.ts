// What the ranks of one group must agree on before they load anything.

import { status } from '@grpc/grpc-js';
import type { JoinRequest } from '../../gen/proto/internvl/shard/v1/shard.ts';
import { RpcError } from '../../rpc/status.ts';

/** Raised with every change after which ranks of two versions can not work together. */
export const SHARD_VERSION = '5';

/** The facts of a rank that its group must share, and its place in it. */
export interface RankIdentity {
  readonly rank: number;
  readonly worldSize: number;
  readonly modelFingerprint: string;
  readonly dtype: string;
  readonly quantization: string;
  readonly kvCacheDtype: string;
  readonly blockSize: number;
  readonly maxModelLength: number;
  readonly version: string;
}

const FIELDS: readonly [keyof RankIdentity, string][] = [
  ['rank', 'rank'],
  ['worldSize', 'world_size'],
  ['modelFingerprint', 'model_fingerprint'],
  ['dtype', 'dtype'],
  ['quantization', 'quantization'],
  ['kvCacheDtype', 'kv_cache_dtype'],
  ['blockSize', 'block_size'],
  ['maxModelLength', 'max_model_length'],
  ['version', 'version'],
];

/** FAILED_PRECONDITION that names the first field in which the leader's request differs from this rank, undefined when none does. */
export function joinRefusal(request: JoinRequest, own: RankIdentity): RpcError | undefined {
  for (const [key, field] of FIELDS) {
    const theirs = String(request[key]);
    const ours = String(own[key]);
    if (theirs === ours) continue;
    return new RpcError(
      status.FAILED_PRECONDITION,
      'GROUP_MISMATCH',
      `${field} differs: rank 0 says ${theirs}, rank ${own.rank} has ${ours}`,
      { metadata: { field, leader: theirs, rank: ours } },
    );
  }
  return undefined;
}
