// Rank k > 0: serves Shard, computes what rank 0 plans, leaves when rank 0 does.

import { ShardService as shardDefinition } from '../gen/proto/internvl/shard/v1/shard.ts';
import { EngineThread } from './engine-thread/engine-thread.ts';
import { settlesWithin } from './exit.ts';
import { RuntimeMetrics } from './metrics.ts';
import { gatherFacts } from './preflight/facts.ts';
import { threadOptions } from './rank-process.ts';
import type { RankProcess } from './rank-process.ts';
import { SHARD_VERSION } from './shard/identity.ts';
import { ShardService } from './shard/shard-service.ts';

const MAX_MESSAGE_BYTES = 64 << 20; // a plan grows with the batch, far below this
/** Beyond rank 0's own drain timeout, in milliseconds: it says when the group ends. */
const DRAIN_MARGIN_MS = 5_000;

/** Runs until the process ends. */
export async function runFollower(self: RankProcess): Promise<void> {
  const { config, logger } = self;
  let groupEnded: () => void = () => undefined;
  const ended = new Promise<void>((resolve) => (groupEnded = resolve));
  let stopping = false;
  let joined = false;

  const thread = new EngineThread(threadOptions(config));
  self.ownThread(thread);
  const { rank, worldSize, dtype, quantization, kvCacheDtype, blockSize } = config;
  const prepared = await thread.prepare();
  self.startup.end('open');
  let loadedAt = performance.now();
  thread.listen({
    onLoadProgress: ({ loadedBytes, totalBytes }) => {
      if (loadedBytes < totalBytes) logger.info('loading', { loadedBytes, totalBytes });
      else {
        const seconds = (performance.now() - loadedAt) / 1000;
        logger.info('loaded', { seconds, bytes: totalBytes });
        self.startup.end('weights');
      }
    },
    onFatal: () => undefined,
  });
  const service = new ShardService({
    thread,
    identity: {
      rank,
      worldSize,
      modelFingerprint: prepared.fingerprint,
      dtype,
      quantization,
      kvCacheDtype,
      blockSize,
      maxModelLength: prepared.maxModelLength,
      version: SHARD_VERSION,
    },
    facts: gatherFacts(),
    hangTimeoutMs: config.hangTimeoutMs,
    logger,
    onJoin: () => {
      joined = true;
      self.startup.end('join');
      loadedAt = performance.now();
    },
    onMeasured: () => {
      self.startup.end('preflight');
      loadedAt = performance.now();
    },
    onReady: () => {
      self.startup.end('kv_cache');
      self.announceServing();
    },
    onEnd: (lost) => {
      groupEnded();
      if (lost && !stopping) self.fatal(lost);
      else void self.finish();
    },
  });
  self.onSignal(async () => {
    stopping = true;
    // Rank 0 got the same signal and may still be finishing requests: it needs this rank until it says Shutdown.
    if (joined) await settlesWithin(ended, config.drainTimeoutMs + DRAIN_MARGIN_MS);
    if (!self.ending) await self.finish();
  });
  await self.serveMetrics(new RuntimeMetrics(() => undefined));
  await self.serve(
    [{ definition: shardDefinition, implementation: service.implementation }],
    MAX_MESSAGE_BYTES,
  );
}
