// What the router adds to the time to a first token while its event loop is busy for 70 % of the time, as far as streams keep it busy: where
// more is needed, another router is run. The router has a core to itself where the system lets it; replicas and clients share the others, and where those
// are full before the router is, the load stops there and the row says how busy the router was. Times with and without the router are of
// the same replica under the same load. How long the loop was held up counts CPU time alone: what the router itself makes others wait for.
import { execFile } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { allowedCores, keepOn } from './cores.ts';
import { LOOP_TURNS, loopTurns } from './event-loop.ts';
import { grpcClient, type StreamClient } from './peers/stream-clients.ts';
import {
  coreWaitSeconds,
  loopSeconds,
  SIMULATION,
  startReplica,
  startRouter,
  stop,
  type Server,
} from './processes.ts';
import type { FirstTokens } from './first-token-probe.ts';
import type { Row } from './results.ts';

const BUSY = 0.7;
const BUSY_WITHIN = 0.05;
const FIRST_STREAMS = 64;
const MOST_STREAMS = 8192;
const TOKENS_PER_STREAM = 400;
/** The machine is full when a stream gets less than this share of the tokens that it gets under the first load. */
const CARRIED = 0.85;
/** Nor may the router itself wait longer than this share of the time for a core. */
const MOST_WAITED = 0.1;
/** Two replicas of a small model, whose steps are bursts of hundreds of tokens each, and as many of the 40B as keep a router as busy. */
const DEPLOYMENTS: readonly Deployment[] = [
  { replicas: 2, stepMs: 10 },
  { replicas: 8, stepMs: 40 },
];
const WARM_UP_MS = 3000;
const WINDOW_MS = 3000;
const PROBE_SECONDS = 40;
const PROBE = fileURLToPath(new URL('first-token-probe.ts', import.meta.url));

interface Deployment {
  readonly replicas: number;
  readonly stepMs: number;
}

/** Streams that follow one another, as many at a time as asked for. */
class Load {
  readonly #client: StreamClient;
  readonly #end = new AbortController();
  readonly #running: Promise<void>[] = [];
  streams = 0;
  tokens = 0;

  constructor(client: StreamClient) {
    this.#client = client;
  }

  /** More begin one after the other; of those that are too many each goes on to its end. */
  async set(streams: number): Promise<void> {
    const before = this.streams;
    this.streams = streams;
    for (let index = before; index < streams; index++) {
      this.#running.push(this.#run(index));
      await pause(2);
    }
  }

  async stop(): Promise<void> {
    this.#end.abort();
    await Promise.all(this.#running);
  }

  async #run(index: number): Promise<void> {
    const { signal } = this.#end;
    while (!signal.aborted && index < this.streams)
      await this.#client
        .stream(TOKENS_PER_STREAM, (count) => (this.tokens += count), signal)
        .catch((error: unknown) => {
          if (!signal.aborted) throw error;
        });
  }
}

interface Window {
  /** How much of the time the router's event loop was busy. */
  readonly busy: number;
  /** How much of the time it waited for a core. */
  readonly waited: number;
  readonly tokensPerSecond: number;
}

async function measure(pid: number, load: Load, during: () => Promise<void>): Promise<Window> {
  const [cpu, wait, tokens, start] = [loopSeconds(pid), coreWaitSeconds(pid), load.tokens, performance.now()];
  await during();
  const seconds = (performance.now() - start) / 1000;
  return {
    busy: (loopSeconds(pid) - cpu) / seconds,
    waited: (coreWaitSeconds(pid) - wait) / seconds,
    tokensPerSecond: (load.tokens - tokens) / seconds,
  };
}

/** Raises the load until the router is as busy as it should be, or the machine is full: then back to the last load that it carried. */
async function raise(load: Load, pid: number, drainMs: number): Promise<void> {
  let carried = load.streams;
  let unhurried: number | undefined;
  for (;;) {
    await pause(WARM_UP_MS);
    const { busy, waited, tokensPerSecond } = await measure(pid, load, () => pause(WINDOW_MS));
    const each = tokensPerSecond / load.streams;
    unhurried ??= each;
    if (each < CARRIED * unhurried || waited > MOST_WAITED) {
      await load.set(carried);
      await pause(drainMs);
      return;
    }
    carried = load.streams;
    if (busy > BUSY - BUSY_WITHIN || carried === MOST_STREAMS) return;
    const wanted = Math.round((carried * BUSY) / busy);
    await load.set(Math.min(MOST_STREAMS, wanted, 2 * carried));
  }
}

export async function benchRouterLatency(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const deployment of DEPLOYMENTS) rows.push(...(await measureDeployment(deployment)));
  return rows;
}

async function measureDeployment(deployment: Deployment): Promise<Row[]> {
  const servers: Server[] = [];
  const cores = allowedCores();
  const own = cores.length > 1 ? cores.slice(-1) : [];
  let load: Load | undefined;
  let client: StreamClient | undefined;
  try {
    const nodeArgs = ['--import', `data:text/javascript,${encodeURIComponent(LOOP_TURNS)}`];
    const simulation = {
      ...SIMULATION,
      stepUs: 1000 * deployment.stepMs,
      maxSequences: MOST_STREAMS / deployment.replicas,
      maxBatchedTokens: 65_536,
    };
    const replicas: Server[] = [];
    for (let i = 0; i < deployment.replicas; i++) {
      const replica = await startReplica(simulation);
      replicas.push(replica);
      servers.push(replica);
    }
    const router = await startRouter(replicas, [], nodeArgs);
    servers.push(router);
    const pid = router.child.pid as number;
    const others = [process.pid, ...replicas.map(({ child }) => child.pid as number)];
    const alone = keepOn(pid, own) && others.every((other) => keepOn(other, cores.slice(0, -1)));
    client = grpcClient(router.address);
    await client.once();
    load = new Load(client);
    await load.set(FIRST_STREAMS);
    // A stream's time, and some.
    await raise(load, pid, 1.5 * TOKENS_PER_STREAM * deployment.stepMs);
    let probed: FirstTokens | undefined;
    await loopTurns(router);
    const { busy, waited, tokensPerSecond } = await measure(pid, load, async () => {
      probed = await probe(router, replicas[0] as Server);
    });
    const turns = await loopTurns(router);
    const { routed, direct } = probed as unknown as FirstTokens;
    const where = alone ? 'a core of its own' : 'no core of its own';
    const steps = `${deployment.replicas} replicas of ${deployment.stepMs} ms a step`;
    const shape = `${steps}, ${where}, loop ${percent(busy)} busy and ${percent(waited)} waiting for a core, ${load.streams} streams, ${tokensPerSecond.toFixed(0)} tokens/s`;
    const added = [0.5, 0.99].map((share): Row => {
      const without = quantile(direct, share);
      return {
        metric: `router, added to the first token, p${100 * share}`,
        shape: `${shape}; ${without.toFixed(1)} ms without it`,
        unit: 'ms',
        value: quantile(routed, share) - without,
      };
    });
    const heldUp: Row = {
      metric: 'router, event loop held up, CPU time, p99',
      shape: `${steps}, ${load.streams} streams, loop ${percent(busy)} busy`,
      unit: 'ms',
      value: turns.p99,
    };
    return [...added, heldUp];
  } finally {
    keepOn(process.pid, cores);
    await load?.stop();
    client?.close();
    await Promise.all(servers.map(stop));
  }
}

async function probe(router: Server, replica: Server): Promise<FirstTokens> {
  const { stdout } = await promisify(execFile)(process.execPath, [
    PROBE,
    router.address,
    replica.address,
    String(PROBE_SECONDS),
  ]);
  return JSON.parse(stdout) as FirstTokens;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(0)} %`;
}

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] as number;
}
