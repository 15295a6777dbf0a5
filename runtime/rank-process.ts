// What both kinds of rank share: one way to die that tells everyone first, signals, the metrics port.

import { readFileSync } from 'node:fs';
import { serveMetrics } from '../rpc/metrics-server.ts';
import type { Logger } from '../rpc/log.ts';
import { createServer } from '../rpc/server.ts';
import type { RpcServer, ServedService } from '../rpc/server.ts';
import type { Config } from './config.ts';
import type { EngineThread } from './engine-thread/engine-thread.ts';
import type { Started, ThreadOptions } from './engine-thread/messages.ts';
import { exitCodeOf, exitNow, settlesWithin } from './exit.ts';
import type { RuntimeMetrics } from './metrics.ts';
import { StartupPhases } from './startup.ts';

/** How long a dying process gives its streams to carry the news, and its thread to end, in milliseconds. */
const FAREWELL_MS = 300;

/** A rank process: what it has open, and how it ends. */
export class RankProcess {
  readonly config: Config;
  readonly logger: Logger;
  readonly startup = new StartupPhases();
  #metrics: RuntimeMetrics | undefined;
  #server: RpcServer | undefined;
  #address: string | undefined;
  #thread: EngineThread | undefined;
  #beforeFatal: ((error: Error) => void) | undefined;
  #dying: string | undefined;
  #ending = false;

  constructor(config: Config, logger: Logger) {
    this.config = config;
    this.logger = logger;
    this.startup.end('process');
  }

  /** The process is on its way out. */
  get ending(): boolean {
    return this.#ending;
  }

  /** Listens for gRPC; health says NOT_SERVING until setServing. */
  async serve(services: readonly ServedService[], maxMessageBytes: number): Promise<void> {
    const { config, logger } = this;
    const descriptors = readFileSync(new URL('../gen/descriptors.binpb', import.meta.url));
    this.#server = createServer({ maxMessageBytes, services, descriptors, logger });
    this.#address = await this.#server.bind(config.listen);
    logger.info('listening', { address: this.#address });
  }

  /** /healthz says whether the process lives, loading included; whether it serves is gRPC health's to say. */
  async serveMetrics(metrics: RuntimeMetrics): Promise<void> {
    this.#metrics = metrics;
    if (this.config.metricsListen === undefined) return;
    const { address } = await serveMetrics({
      listen: this.config.metricsListen,
      registry: metrics.registry,
      unhealthy: () => this.#dying,
    });
    this.logger.info('metrics', { address });
  }

  setServing(serving: boolean): void {
    this.#server?.setServing(serving);
  }

  /** The rank is up: health says SERVING, the log where and what the start took. */
  announceServing(): void {
    this.setServing(true);
    const startupMs = this.startup.milliseconds;
    this.#metrics?.started(startupMs);
    this.logger.info('serving', { address: this.#address, startupMs });
  }

  /** The engine thread to end with the process. */
  ownThread(thread: EngineThread): void {
    this.#thread = thread;
    thread.listen({ onStarted: (started) => this.#announceStarted(started), onFatal: () => undefined });
  }

  #announceStarted({ exchange, warmUp }: Started): void {
    if (exchange)
      this.logger.info('exchange between ranks', { path: exchange.path, leftOut: exchange.leftOut });
    const { ms, ...tried } = warmUp;
    this.logger.info('warmed up', { seconds: ms / 1000, ...tried });
  }

  /** Told first when the process dies, synchronously. */
  onFatal(tell: (error: Error) => void): void {
    this.#beforeFatal = tell;
  }

  /** Dies: says so to health, clients and log, in that order, and exits within a second whatever the engine thread does. */
  fatal(error: Error): void {
    if (this.#ending) return;
    this.#ending = true;
    this.#dying = error.message;
    this.setServing(false);
    const code = exitCodeOf(error);
    try {
      this.#beforeFatal?.(error);
    } finally {
      this.logger.error('fatal', { code, err: error });
      void this.#leave(code, FAREWELL_MS);
    }
  }

  /** Ends as planned. */
  async finish(): Promise<void> {
    this.#ending = true;
    this.setServing(false);
    await this.#leave(0, 2_000);
  }

  /** Runs `stop` at the first SIGTERM or SIGINT; a second one ends the process at once. */
  onSignal(stop: () => Promise<void>): void {
    let signals = 0;
    const handle = (signal: NodeJS.Signals): void => {
      signals += 1;
      if (this.#ending) return;
      this.logger.info('stopping', { signal });
      if (signals > 1) {
        void this.finish();
        return;
      }
      stop().catch((err: unknown) => this.fatal(err instanceof Error ? err : new Error(String(err))));
    };
    process.on('SIGTERM', handle);
    process.on('SIGINT', handle);
  }

  async #leave(code: number, graceMs: number): Promise<void> {
    const thread = this.#thread;
    const [ended] = await Promise.all([
      thread ? thread.close(graceMs) : true,
      settlesWithin(this.#server?.shutdown(graceMs) ?? Promise.resolve(), graceMs + 100),
    ]);
    exitNow(code, ended);
  }
}

/** The flags that the engine thread needs. */
export function threadOptions(config: Config): ThreadOptions {
  return {
    directory: config.model,
    rank: config.rank,
    worldSize: config.worldSize,
    dtype: config.dtype,
    quantization: config.quantization,
    threads: config.threads,
    device: config.device,
    loadFormat: config.loadFormat,
    collectiveHost: config.collectiveHost,
    collectiveTimeoutMs: config.hangTimeoutMs,
    blockSize: config.blockSize,
    maxModelLength: config.maxModelLength,
    maxSequences: config.maxSequences,
    maxBatchedTokens: config.maxBatchedTokens,
    stepTargetMs: config.stepTargetMs,
    kvCache: config.kvCache,
    kvCacheDtype: config.kvCacheDtype,
    prefixCache: config.prefixCache,
    encoderCacheBytes: config.encoderCacheBytes,
  };
}
