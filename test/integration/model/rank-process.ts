// One rank of a tensor-parallel group in its own process: follows the orders that its parent sends over IPC.

import type { KvCacheDType } from '../../../runtime/model/kv-cache-size.ts';
import type { Quantization } from '../../../runtime/model/partition.ts';
import type { WeightDType } from '../../../runtime/model/tensor-plan.ts';
import { native } from '../../../runtime/native/index.ts';
import { readUint8Npy } from '../../support/npy.ts';
import { loadTestModel, ModelSession } from '../../support/model-session.ts';
import type { PlacedImage } from '../../support/batches.ts';
import type { Draw } from '../../support/logits.ts';

/** What a rank is started with (argv[2], JSON). */
export interface RankOptions {
  readonly checkpoint: string;
  readonly rank: number;
  readonly worldSize: number;
  readonly dtype: WeightDType;
  readonly quantization?: Quantization;
  readonly runsAhead?: boolean;
  readonly kvCacheDtype?: KvCacheDType;
}

/** A greedy run, or one token for each draw. Ranks > 0 get zeros for ids, greedy draws and no pixels: they must come from rank 0. */
export interface RankRequest {
  readonly ids: readonly number[];
  readonly pixels: string | undefined;
  readonly image: PlacedImage | undefined;
  readonly steps: number;
  readonly chunk: number;
  readonly draws?: readonly Draw[];
}

export interface RankResult {
  readonly tokens: number[];
  readonly logits: Float32Array[];
}

export type FromParent =
  | { readonly type: 'connect'; readonly addresses: Uint8Array[] }
  | { readonly type: 'generate'; readonly request: RankRequest };

export type FromRank =
  | { readonly type: 'addresses'; readonly addresses: Uint8Array[] }
  | { readonly type: 'connected' }
  | { readonly type: 'generated'; readonly result: RankResult };

const COLLECTIVE_TIMEOUT_MS = 30_000;

function main(options: RankOptions): void {
  const { checkpoint, rank, worldSize, dtype, quantization = 'none', runsAhead = false } = options;
  const ops = native();
  ops.setThreads(1);
  const { kvCacheDtype } = options;
  const model = loadTestModel(checkpoint, { dtype, quantization, kvCacheDtype, rank, worldSize, runsAhead });
  const session = new ModelSession(model);
  const send = (message: FromRank) => process.send?.(message);

  process.on('message', (message: FromParent) => {
    if (message.type === 'connect') {
      ops.connectCollective(message.addresses);
      send({ type: 'connected' });
      return;
    }
    const { ids, pixels, image, steps, chunk, draws } = message.request;
    if (image !== undefined)
      model.encodeImage(image.image, pixels === undefined ? undefined : readUint8Npy(pixels).data);
    const sequence = session.start(ids, image === undefined ? [] : [image]);
    const result = draws
      ? { tokens: session.drawn(sequence, draws), logits: [] }
      : session.greedy(sequence, steps, chunk);
    session.finish(sequence);
    if (image !== undefined) model.freeImage(image.image);
    send({ type: 'generated', result });
  });
  process.on('disconnect', () => process.exit(0));
  send({
    type: 'addresses',
    addresses: ops.createCollective(rank, worldSize, '127.0.0.1', COLLECTIVE_TIMEOUT_MS),
  });
}

main(JSON.parse(process.argv[2] ?? '{}') as RankOptions);
