// Rank 0: gathers its group, runs the engine, serves it to routers.

import { randomUUID } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { EngineService as engineDefinition } from '../gen/proto/internvl/engine/v1/engine.ts';
import { readModelConfig } from './checkpoint/checkpoint.ts';
import type { Engine, EngineInfo } from './engine/engine.ts';
import { SimulatedEngine } from './engine/simulated-engine.ts';
import { parseSimulation } from './engine/simulation.ts';
import { EngineThread } from './engine-thread/engine-thread.ts';
import { ModelEngine } from './engine-thread/model-engine.ts';
import { EngineStalled, settlesWithin } from './exit.ts';
import { ImagePool } from './image/pool.ts';
import { ImageStore } from './image/store.ts';
import { RuntimeMetrics } from './metrics.ts';
import type { ModelConfig } from './model/config.ts';
import { imageBytes } from './model/image-bytes.ts';
import { gatherFacts } from './preflight/facts.ts';
import { assertAllowed } from './preflight/interconnect-refused.ts';
import type { PreflightReport } from './preflight/report.ts';
import { logReport } from './preflight/tell.ts';
import { threadOptions } from './rank-process.ts';
import type { RankProcess } from './rank-process.ts';
import { Dispatcher } from './server/dispatcher.ts';
import { engineService } from './server/engine-service.ts';
import { Pictures } from './server/pictures.ts';
import { MAX_IMAGE_PIXELS, describeReplica, sha256 } from './server/replica.ts';
import { SessionHub } from './server/session-hub.ts';
import { warmUp } from './server/warm-up.ts';
import { SHARD_VERSION } from './shard/identity.ts';
import { ShardGroup } from './shard/shard-group.ts';
import { Tokenizer } from './tokenizer/tokenizer.ts';

/** Larger than any batch of submissions a router sends; pictures come in pieces. */
const MAX_MESSAGE_BYTES = 32 << 20;
/** Of preprocessed pictures; about a hundred of 448 x 448. */
const PICTURE_STORE_BYTES = 64 << 20;
const WATCH_INTERVAL_MS = 250;

interface StartedEngine {
  readonly engine: Engine;
  readonly fingerprint: string;
  /** How the ranks reach each other; undefined = not measured. */
  readonly preflight: PreflightReport | undefined;
  /** The engine is lost: finds out to what, and dies of it. */
  readonly engineFailed: (error: Error) => void;
  /** Tells the other ranks that the group ends. */
  readonly leaveGroup: (orderly: boolean) => void;
}

/** Starts rank 0; resolves when it serves. */
export async function runLeader(self: RankProcess): Promise<void> {
  const { config, logger } = self;
  let hub: SessionHub | undefined;
  let started: StartedEngine | undefined;
  const metrics = new RuntimeMetrics(() => hub?.dispatcher.engine.load());
  self.onSignal(async () => {
    if (hub && started) await drain(self, hub, started);
    else await self.finish();
  });
  await self.serve(
    [{ definition: engineDefinition, implementation: engineService(() => hub, logger) }],
    MAX_MESSAGE_BYTES,
  );
  await self.serveMetrics(metrics);

  const model = readModelConfig(config.model);
  const { imageTokenId, tokenizerFingerprint } = readTokenizer(config.model);
  started = config.simulate ? simulate(self, model) : await startGroup(self);
  const { engine, fingerprint, preflight, leaveGroup } = started;
  if (preflight) metrics.interconnect(preflight);
  const dispatcher = new Dispatcher(engine, metrics, (error) => started?.engineFailed(error));
  self.onFatal((error) => {
    dispatcher.lose(error);
    leaveGroup(false);
  });
  watchEngine(self, engine);
  if (!config.simulate) await warmUp(dispatcher, model.llm.bosTokenId);
  self.startup.end('warm_up');

  const limits = { maxBytes: config.maxImageBytes, maxPixels: MAX_IMAGE_PIXELS };
  const pool = new ImagePool({ size: model.vision.imageSize, limits, workers: 1, maxQueue: 64 });
  const store = new ImageStore({
    maxBytes: PICTURE_STORE_BYTES,
    maxWaiters: 64 * Math.max(1, config.maxImages),
  });
  hub = new SessionHub({
    replica: describeReplica({
      directory: config.model,
      info: engine.info,
      model,
      servedName: config.servedName,
      dtype: config.dtype,
      worldSize: config.worldSize,
      maxImages: config.maxImages,
      maxImageBytes: config.maxImageBytes,
      imageTokenId,
      tokenizerFingerprint,
      modelFingerprint: fingerprint,
      version: SHARD_VERSION,
      epoch: randomUUID(),
      preflight,
    }),
    dispatcher,
    pictures: new Pictures(store, pool, config.maxImageBytes),
    metrics,
  });
  if (self.ending) return;
  self.announceServing();
}

async function startGroup(self: RankProcess): Promise<StartedEngine> {
  const { config, logger } = self;
  const { rank, worldSize, dtype, quantization, kvCacheDtype, blockSize, maxSequences } = config;
  let group: ShardGroup | undefined;
  const engineFailed = (error: Error): void => {
    if (error.name !== 'CollectiveError' || !group) {
      self.fatal(error);
      return;
    }
    self.setServing(false);
    group.suspect(error);
  };
  const thread = new EngineThread(threadOptions(config));
  self.ownThread(thread);
  thread.listen({
    onLoadProgress: (progress) => logger.info('loading', { ...progress }),
    onFatal: engineFailed,
  });
  const cores = availableParallelism();
  if (worldSize * config.threads > cores) {
    logger.warn('more threads than cores', { worldSize, threads: config.threads, cores });
  }
  // Allowed all the same: what runs on a GPU is tried on a machine without one.
  if (quantization === 'fp8' && config.device.kind === 'cpu') {
    logger.warn('fp8 weights are for GPUs: int8 ones take as much memory and are faster on a CPU');
  }
  const { fingerprint, maxModelLength, vocabSize } = await thread.prepare();
  self.startup.end('open');
  const started = new ShardGroup({
    thread,
    identity: {
      rank,
      worldSize,
      modelFingerprint: fingerprint,
      dtype,
      quantization,
      kvCacheDtype,
      blockSize,
      maxModelLength,
      version: SHARD_VERSION,
    },
    facts: gatherFacts(),
    addresses: config.ranks,
    epoch: randomUUID(),
    hangTimeoutMs: config.hangTimeoutMs,
    logger,
    onLost: (error) => self.fatal(error),
  });
  group = started;
  self.onFatal(() => started.close(false));
  const kvBlocks = await started.join();
  self.startup.end('join');
  const preflight = await preflightOf(self, started);
  const begin = performance.now();
  const { bytes } = await started.load();
  logger.info('loaded', { seconds: (performance.now() - begin) / 1000, bytes });
  self.startup.end('weights');
  await started.start(kvBlocks);
  self.startup.end('kv_cache');
  const info: EngineInfo = { maxModelLength, vocabSize, blockSize, kvBlocks, maxSequences };
  return {
    engine: new ModelEngine(thread, info),
    fingerprint,
    preflight,
    engineFailed,
    leaveGroup: (orderly) => started.close(orderly),
  };
}

/** Measures before anything is loaded: a group that must not run so is refused within seconds. Throws InterconnectRefused. */
async function preflightOf(
  { config, logger, startup }: RankProcess,
  group: ShardGroup,
): Promise<PreflightReport | undefined> {
  if (config.worldSize === 1 || config.preflight === 'off') return undefined;
  const report = await group.preflight(config.preflight);
  startup.end('preflight');
  logReport(report, logger);
  assertAllowed(report, config.interconnect);
  return report;
}

function simulate(self: RankProcess, model: ModelConfig): StartedEngine {
  const { config } = self;
  const { maxSequences, maxBatchedTokens, stepTargetMs, blockSize, prefixCache, encoderCacheBytes } = config;
  const given = {
    vocabSize: model.llm.vocabSize,
    imageBytes: imageBytes(model, config.dtype),
    maxSequences,
    maxBatchedTokens,
    stepTargetMs,
    blockSize,
    prefixCache,
    encoderCacheBytes,
  };
  const length = config.maxModelLength === undefined ? {} : { maxModelLength: config.maxModelLength };
  const simulation = parseSimulation({ ...given, ...length, ...config.simulate });
  return {
    engine: new SimulatedEngine({ simulation }),
    fingerprint: sha256(Buffer.from(JSON.stringify(simulation))),
    preflight: undefined,
    engineFailed: (error) => self.fatal(error),
    leaveGroup: () => undefined,
  };
}

// The tokenizer itself is the routers' business: its tables must not stay in this process's memory.
function readTokenizer(directory: string): { imageTokenId: number; tokenizerFingerprint: string } {
  const tokenizer = Tokenizer.fromDirectory(directory);
  const imageTokenId = tokenizer.vocabulary.idOf('<IMG_CONTEXT>');
  // A vocabulary without it can answer text alone: no id is the image token's then.
  return { imageTokenId: imageTokenId ?? 0xffffffff, tokenizerFingerprint: tokenizer.fingerprint };
}

/** Kills the process when the engine has work but does not get on: whoever waits for it must not wait for ever. */
function watchEngine(self: RankProcess, engine: Engine): void {
  const timer = setInterval(() => {
    const stalledMs = engine.stalledMs();
    if (stalledMs < self.config.hangTimeoutMs) return;
    clearInterval(timer);
    self.fatal(new EngineStalled(stalledMs));
  }, WATCH_INTERVAL_MS);
  timer.unref();
}

async function drain(self: RankProcess, hub: SessionHub, { leaveGroup }: StartedEngine): Promise<void> {
  const { config, logger } = self;
  self.setServing(false);
  hub.setDraining(true);
  const { dispatcher } = hub;
  if (!(await settlesWithin(dispatcher.idle(), config.drainTimeoutMs))) {
    logger.warn('drain timeout', { aborted: dispatcher.numLive, drainTimeoutMs: config.drainTimeoutMs });
    dispatcher.abortAll();
    await settlesWithin(dispatcher.idle(), 1_000);
  }
  if (self.ending) return;
  hub.closeAll();
  leaveGroup(true);
  await self.finish();
}
