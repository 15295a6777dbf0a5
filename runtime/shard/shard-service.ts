// Rank k's end of the group: serves internvl.shard.v1.Shard to rank 0, feeds its plans to the engine thread, and leaves when rank 0 is
// gone. A rank belongs to one group at a time; until Start a new leader may take over.

import { status } from '@grpc/grpc-js';
import type { ServerDuplexStream, ServerUnaryCall, ServerWritableStream } from '@grpc/grpc-js';
import { LoadProgress, PreflightExtent, RankMessage } from '../../gen/proto/internvl/shard/v1/shard.ts';
import type {
  JoinRequest,
  JoinResponse,
  LeaderMessage,
  LoadRequest,
  PreflightRequest,
  PreflightResponse,
  ShardServer,
  Start,
} from '../../gen/proto/internvl/shard/v1/shard.ts';
import { answer } from '../../rpc/guard.ts';
import type { Logger } from '../../rpc/log.ts';
import { RpcError } from '../../rpc/status.ts';
import { StreamWriter } from '../../rpc/writer.ts';
import { HangWatch } from '../engine-thread/hang-watch.ts';
import { toWireFacts } from '../preflight/facts-codec.ts';
import type { RankFacts } from '../preflight/rank-facts.ts';
import { GroupLost } from './group-lost.ts';
import { joinRefusal } from './identity.ts';
import type { RankIdentity } from './identity.ts';
import { HEARTBEAT_INTERVAL_MS } from './rank-thread.ts';
import type { RankThread } from './rank-thread.ts';

export interface ShardServiceOptions {
  readonly thread: RankThread;
  readonly identity: RankIdentity;
  readonly facts: RankFacts;
  readonly hangTimeoutMs: number;
  readonly logger: Logger;
  /** A leader has taken this rank. */
  readonly onJoin?: () => void;
  /** The links are measured. */
  readonly onMeasured?: () => void;
  /** The group is started: this rank computes. */
  readonly onReady: () => void;
  /** Called once: undefined after rank 0's Shutdown, otherwise why the group is lost. The process must end. */
  readonly onEnd: (lost: Error | undefined) => void;
}

/** The Shard service of one rank. */
export class ShardService {
  readonly #options: ShardServiceOptions;
  #epoch: string | undefined;
  #loaded: Promise<{ readonly bytes: number }> | undefined; // kept for a leader that takes over
  #loadWriter: StreamWriter<LoadProgress> | undefined;
  #control: ControlStream | undefined;
  #ended = false;

  constructor(options: ShardServiceOptions) {
    this.#options = options;
    options.thread.listen({
      onLoadProgress: ({ loadedBytes, totalBytes }) =>
        void this.#loadWriter?.write({ loadedBytes, totalBytes, done: false }),
      onFatal: (error) => {
        this.#control?.sendFatal(error.code, error.message);
        this.#end(error);
      },
    });
  }

  get implementation(): ShardServer {
    return {
      join: answer((call: ServerUnaryCall<JoinRequest, JoinResponse>) => this.#join(call.request)),
      preflight: answer((call: ServerUnaryCall<PreflightRequest, PreflightResponse>) =>
        this.#preflight(call.request),
      ),
      load: (call: ServerWritableStream<LoadRequest, LoadProgress>) => this.#load(call),
      control: (call: ServerDuplexStream<LeaderMessage, RankMessage>) => this.#open(call),
    };
  }

  async #join(request: JoinRequest): Promise<JoinResponse> {
    const { identity, thread, logger, facts } = this.#options;
    const refusal = joinRefusal(request, identity);
    if (refusal) throw refusal;
    if (this.#control) {
      throw new RpcError(
        status.FAILED_PRECONDITION,
        'GROUP_EPOCH',
        `group_epoch differs: rank ${identity.rank} still belongs to ${this.#epoch}`,
      );
    }
    this.#epoch = request.groupEpoch;
    logger.info('joined', { epoch: request.groupEpoch });
    this.#options.onJoin?.();
    const { addresses, maxKvBlocks } = await thread.join();
    const collectiveAddresses = addresses.map((address) => Buffer.from(address));
    return { collectiveAddresses, maxKvBlocks, facts: toWireFacts(facts) };
  }

  async #preflight({ groupEpoch, peerAddresses, extent }: PreflightRequest): Promise<PreflightResponse> {
    this.#checkEpoch(groupEpoch);
    const { thread } = this.#options;
    try {
      const full = extent === PreflightExtent.FULL;
      const { backend, paths } = await thread.preflight(peerAddresses, full ? 'full' : 'quick');
      this.#options.onMeasured?.();
      return { backend, paths: [...paths] };
    } catch (err) {
      throw new RpcError(status.ABORTED, 'PREFLIGHT_FAILED', (err as Error).message, { cause: err });
    }
  }

  #load(call: ServerWritableStream<LoadRequest, LoadProgress>): void {
    const { thread } = this.#options;
    this.#checkEpoch(call.request.groupEpoch);
    const writer = new StreamWriter<LoadProgress>(call, {
      byteLength: (message) => LoadProgress.encode(message).finish().length,
    });
    this.#loadWriter = writer;
    this.#loaded ??= thread.load();
    void this.#reportLoaded(this.#loaded, writer);
  }

  async #reportLoaded(
    loaded: Promise<{ readonly bytes: number }>,
    writer: StreamWriter<LoadProgress>,
  ): Promise<void> {
    try {
      const { bytes } = await loaded;
      writer.write({ loadedBytes: bytes, totalBytes: bytes, done: true });
      writer.end();
    } catch (err) {
      writer.fail(new RpcError(status.FAILED_PRECONDITION, 'LOAD_FAILED', (err as Error).message));
    }
  }

  #open(call: ServerDuplexStream<LeaderMessage, RankMessage>): void {
    if (this.#control) {
      throw new RpcError(
        status.FAILED_PRECONDITION,
        'GROUP_EPOCH',
        'rank 0 already has a Control stream here',
      );
    }
    this.#control = new ControlStream(call, {
      ...this.#options,
      checkEpoch: (epoch) => this.#checkEpoch(epoch),
      onEnd: (lost) => this.#end(lost),
    });
  }

  #checkEpoch(epoch: string): void {
    if (epoch === this.#epoch) return;
    throw new RpcError(
      status.FAILED_PRECONDITION,
      'GROUP_EPOCH',
      `group_epoch differs: rank 0 says ${epoch}, rank ${this.#options.identity.rank} joined ${this.#epoch ?? 'none'}`,
    );
  }

  #end(lost: Error | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#control?.close();
    this.#options.onEnd(lost);
  }
}

interface ControlOptions extends ShardServiceOptions {
  readonly checkEpoch: (epoch: string) => void;
}

/** The one Control stream: plans in, step acknowledgements and heartbeats out. */
class ControlStream {
  readonly #options: ControlOptions;
  readonly #writer: StreamWriter<RankMessage>;
  readonly #watch = new HangWatch(2 * HEARTBEAT_INTERVAL_MS);
  readonly #timer: NodeJS.Timeout;
  #heartbeats = 0;
  #started = false;

  constructor(call: ServerDuplexStream<LeaderMessage, RankMessage>, options: ControlOptions) {
    this.#options = options;
    this.#writer = new StreamWriter<RankMessage>(call, {
      byteLength: (message) => RankMessage.encode(message).finish().length,
    });
    this.#timer = setInterval(() => this.#beat(), HEARTBEAT_INTERVAL_MS);
    options.thread.listen({
      onStepDone: ({ step, planHash, computeUs }) =>
        void this.#writer.write({ message: { $case: 'stepDone', value: { step, planHash, computeUs } } }),
      onFatal: () => undefined,
    });
    call.on('data', (message: LeaderMessage) => this.#receive(message));
    const gone = (how: string): void => options.onEnd(new GroupLost(0, `its Control stream ${how}`));
    call.on('end', () => gone('ended'));
    call.on('cancelled', () => gone('was cancelled'));
    call.on('close', () => gone('closed'));
    call.on('error', (err: Error) => gone(`failed: ${err.message}`));
  }

  sendFatal(code: string, message: string): void {
    this.#writer.write({ message: { $case: 'fatal', value: { code, message } } });
  }

  close(): void {
    clearInterval(this.#timer);
    this.#writer.end();
  }

  #receive({ message }: LeaderMessage): void {
    this.#heartbeats += 1;
    switch (message?.$case) {
      case 'start':
        void this.#start(message.value);
        break;
      case 'stepPlan':
        if (this.#started) this.#options.thread.plan(message.value);
        else
          this.#options.onEnd(new GroupLost(0, `step ${message.value.step} came before this rank was ready`));
        break;
      case 'shutdown':
        this.#options.onEnd(undefined);
        break;
      case 'heartbeat':
      case undefined:
        break;
    }
  }

  async #start(start: Start): Promise<void> {
    const { thread, checkEpoch, onReady, onEnd } = this.#options;
    try {
      checkEpoch(start.groupEpoch);
    } catch (err) {
      onEnd(err as Error);
      return;
    }
    try {
      await thread.start(start.kvBlocks, start.peerAddresses);
    } catch {
      return; // the thread's onFatal has said why
    }
    this.#started = true;
    this.#writer.write({ message: { $case: 'ready', value: {} } });
    onReady();
  }

  #beat(): void {
    const { thread, hangTimeoutMs, onEnd } = this.#options;
    this.#writer.write({ message: { $case: 'heartbeat', value: { progress: thread.progress } } });
    const silentMs = this.#watch.observe(this.#heartbeats, true, performance.now());
    if (silentMs >= hangTimeoutMs)
      onEnd(new GroupLost(0, `sent no heartbeat for ${Math.round(silentMs)} ms`));
  }
}
