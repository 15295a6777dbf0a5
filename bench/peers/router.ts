// Our router beside those of sglang and vLLM, each in front of two replicas without a model that give every stream a token each 10 ms.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SIMULATION, startNode, startReplica, startRouter, stop, type Server } from '../processes.ts';
import { install, PEERS } from './install.ts';
import type { Comparison, Missing } from './page.ts';
import { startPeerRouter } from './peer-router.ts';
import { measureStreams, measureUnary, type Streamed } from './router-load.ts';
import { median, peerRow, rowLine, type PeerRow } from './rows.ts';
import { grpcClient, sseClient, type StreamClient } from './stream-clients.ts';

const ROUNDS = 3;
const STREAMS = [64, 256, 1024];
const WARM_UP_STREAMS = 256;
const STEP_MS = SIMULATION.stepUs / 1000;
const BARE = 'no router';
const OURS = 'ours';

const ABOUT = `Router processes on one machine with their replicas and their clients. Ours speaks gRPC, tokenizes, detokenizes and batches; the peers
pass on HTTP and server-sent events, chosen round-robin, the least they can do. CPU time is the router process's own, from the operating system.
Before the first figure each has a round of ${WARM_UP_STREAMS} streams and one of unary requests that do not count: a program that is compiled while it runs
is measured as it serves, not as it starts. Times to the first token are of streams of one token, sent every 50 ms beside the others. Their limit is that of the HTTP replicas without a
router; what is above it is the router's (ours has replicas of its own kind, with the same steps). Where fewer tokens arrive than ${1000 / STEP_MS} a second and stream, the machine is full, and times to first tokens tell of that.`;

/** What is loaded in turn; a pid makes it a router. */
interface Contender {
  readonly name: string;
  readonly client: StreamClient;
  readonly pid: number | undefined;
}

export async function compareRouters(say: (text: string) => void): Promise<Comparison> {
  const missing: Missing[] = [];
  const servers: { readonly child: Server['child'] }[] = [];
  const contenders: Contender[] = [];
  try {
    say('routers');
    // Room for every stream at once, in steps and in the cache: what waits for room is not the router's doing.
    const simulation = { ...SIMULATION, maxSequences: Math.max(...STREAMS), maxBatchedTokens: 65_536 };
    const replicas = await started(servers, () => startReplica(simulation));
    const router = await startRouter(replicas);
    servers.push(router);
    contenders.push({ name: OURS, client: grpcClient(router.address), pid: router.child.pid });
    await untilServing(contenders[0] as Contender);

    const script = fileURLToPath(new URL('sse-replica.ts', import.meta.url));
    const workers = (await started(servers, () => startNode(script, [String(STEP_MS)], 'listening'))).map(
      ({ address }) => address,
    );
    contenders.push({ name: BARE, client: sseClient(workers), pid: undefined });
    for (const peer of ['sglang-router', 'vllm-router'] as const)
      try {
        const program = join(await install(peer, say), 'bin', peer);
        const { child, address } = await startPeerRouter(program, (port, metricsPort) =>
          (peer === 'sglang-router' ? ['launch'] : []).concat(
            ['--host', '127.0.0.1', '--port', String(port), '--prometheus-port', String(metricsPort)],
            ['--policy', 'round_robin', '--log-level', 'error', '--max-concurrent-requests', '8192'],
            ['--worker-urls', ...workers.map((worker) => `http://${worker}`)],
          ),
        );
        servers.push({ child });
        contenders.push({ name: peer, client: sseClient([address]), pid: child.pid });
      } catch (error) {
        missing.push({ peer, reason: (error as Error).message });
      }
    const rows = await measureAll(contenders, missing, say);
    const pins = [...PEERS['sglang-router'].pip, ...PEERS['vllm-router'].pip];
    return {
      about: ABOUT,
      rows,
      missing,
      versions: Object.fromEntries(pins.map((pin) => pin.split('==') as [string, string])),
    };
  } finally {
    for (const { client } of contenders) client.close();
    await Promise.all(servers.map(stop));
  }
}

async function started(
  servers: { readonly child: Server['child'] }[],
  start: () => Promise<Server>,
): Promise<Server[]> {
  const two: Server[] = [];
  for (let i = 0; i < 2; i++) {
    const server = await start();
    servers.push(server);
    two.push(server);
  }
  return two;
}

/** Our router holds requests until a replica is ready. */
async function untilServing({ client }: Contender): Promise<void> {
  await client.once();
}

async function measureAll(
  contenders: Contender[],
  missing: Missing[],
  say: (text: string) => void,
): Promise<PeerRow[]> {
  const rows: PeerRow[] = [];
  /** Runs rounds of all contenders in turn; a peer that fails is out, and named. */
  const rounds = async <Result>(
    what: string,
    of: (contender: Contender) => Promise<Result>,
    count: number = ROUNDS,
  ) => {
    const results = new Map<string, Result[]>();
    for (let round = 0; round < count; round++)
      for (const contender of Array.from(contenders))
        try {
          const result = await of(contender);
          results.set(contender.name, [...(results.get(contender.name) ?? []), result]);
        } catch (error) {
          if (contender.name === OURS || contender.name === BARE) throw error;
          missing.push({ peer: contender.name, reason: `${what}: ${(error as Error).message}` });
          contenders.splice(contenders.indexOf(contender), 1);
          results.delete(contender.name);
        }
    return results;
  };
  const unaryOf = async ({ client, pid }: Contender): Promise<number> =>
    pid === undefined ? 0 : await measureUnary(client, pid);
  say('routers, warm-up');
  await rounds(
    'warm-up',
    async (contender) => {
      await measureStreams(contender.client, WARM_UP_STREAMS, contender.pid);
      await unaryOf(contender);
    },
    1,
  );
  for (const streams of STREAMS) {
    const results = await rounds(`${streams} streams`, ({ client, pid }) =>
      measureStreams(client, streams, pid),
    );
    const measured = streamRows(streams, results);
    measured.forEach((row) => say(rowLine(row)));
    rows.push(...measured);
  }
  const unary = await rounds('unary requests', unaryOf);
  const perCore = (name: string) => medianOf(unary.get(name), (value) => value);
  rows.push(
    peerRow({
      metric: 'router, unary requests of 1 token',
      shape: '64 in flight',
      unit: 'requests/s of CPU time',
      better: 'more',
      ours: perCore(OURS),
      peers: peersOf(unary, perCore),
    }),
  );
  return rows;
}

function streamRows(streams: number, results: ReadonlyMap<string, readonly Streamed[]>): PeerRow[] {
  const shape = `${streams} streams`;
  const row = (
    metric: string,
    unit: string,
    better: 'more' | 'less',
    figure: (streamed: Streamed) => number,
    limit: number | null,
  ) => {
    const of = (name: string) => medianOf(results.get(name), figure);
    return peerRow({ metric, shape, unit, better, ours: of(OURS), peers: peersOf(results, of), limit });
  };
  const bare = (figure: (streamed: Streamed) => number) => medianOf(results.get(BARE), figure);
  const first = (share: number) => (streamed: Streamed) => quantile(streamed.firstTokens, share);
  return [
    row('router, CPU per streamed token', 'µs', 'less', ({ cpuMicros = NaN }) => cpuMicros, null),
    row('first token through the router, p50', 'ms', 'less', first(0.5), bare(first(0.5))),
    row('first token through the router, p99', 'ms', 'less', first(0.99), bare(first(0.99))),
    row(
      'tokens that arrived',
      'tokens/s',
      'more',
      ({ tokensPerSecond }) => tokensPerSecond,
      (streams * 1000) / STEP_MS,
    ),
  ];
}

function peersOf(
  results: ReadonlyMap<string, unknown>,
  figure: (name: string) => number | null,
): Record<string, number | null> {
  const names = [...results.keys()].filter((name) => name !== OURS && name !== BARE);
  return Object.fromEntries(names.map((name) => [name, figure(name)]));
}

function medianOf<Result>(
  results: readonly Result[] | undefined,
  figure: (result: Result) => number,
): number | null {
  const values = (results ?? []).map(figure).filter((value) => !Number.isNaN(value));
  return values.length === 0 ? null : median(values);
}

/** NaN where there is nothing to take it of: no stream began in the window. */
function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN;
}
