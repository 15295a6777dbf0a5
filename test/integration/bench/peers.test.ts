// What the comparison with peers stands on: clients that count every token, and engines that answer line by line. No peer is installed here.
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { EngineProcess } from '../../../bench/peers/engine-process.ts';
import { startPeerRouter } from '../../../bench/peers/peer-router.ts';
import { grpcClient, sseClient, type StreamClient } from '../../../bench/peers/stream-clients.ts';
import {
  SIMULATION,
  startNode,
  startReplica,
  startRouter,
  stop,
  type Server,
} from '../../../bench/processes.ts';
import { LAYER_OF_40B } from '../../../bench/shapes.ts';

const PEERS = fileURLToPath(new URL('../../../bench/peers/', import.meta.url));

describe('stream clients', () => {
  const servers: Server[] = [];
  const clients: Record<string, StreamClient> = {};

  beforeAll(async () => {
    const replica = await startReplica({ ...SIMULATION, stepUs: 2000 });
    servers.push(replica);
    const router = await startRouter([replica]);
    servers.push(router);
    clients['gRPC'] = grpcClient(router.address);
    const worker = await startNode(`${PEERS}sse-replica.ts`, ['2'], 'listening');
    servers.push(worker);
    clients['HTTP'] = sseClient([worker.address]);
  });

  afterAll(async () => {
    for (const client of Object.values(clients)) client.close();
    await Promise.all(servers.map(stop));
  });

  it.each(['gRPC', 'HTTP'])('%s: counts exactly the tokens of each of many streams', async (name) => {
    const client = clients[name] as StreamClient;
    const counts = await Promise.all(
      [1, 2, 40, 40, 41].map(async (tokens) => {
        let count = 0;
        await client.stream(tokens, (more) => (count += more), new AbortController().signal);
        return count;
      }),
    );
    expect(counts).toEqual([1, 2, 40, 40, 41]);
    await client.once();
  });

  it.each(['gRPC', 'HTTP'])('%s: ends a stream that is aborted', async (name) => {
    const stopper = new AbortController();
    const endless = (clients[name] as StreamClient).stream(2000, () => stopper.abort(), stopper.signal);
    await expect(endless).rejects.toThrow();
  });
});

describe('startPeerRouter', () => {
  it('tells the last words of a router that ends', async () => {
    const dying = ['-e', 'console.error("no such policy"); process.exit(2)'];
    await expect(startPeerRouter(process.execPath, () => dying)).rejects.toThrow('no such policy');
  });

  it('tells of a program that is not there', async () => {
    await expect(startPeerRouter('/no/such/router', () => [])).rejects.toThrow('/no/such/router');
  });
});

describe('EngineProcess', () => {
  let engine: EngineProcess | undefined;
  afterEach(async () => await engine?.stop());

  const shape = {
    ...LAYER_OF_40B,
    llm_config: {
      ...LAYER_OF_40B.llm_config,
      hidden_size: 64,
      intermediate_size: 64,
      num_attention_heads: 2,
      num_key_value_heads: 1,
    },
  };

  it('times each pass of ours', async () => {
    engine = new EngineProcess('ours', [process.execPath, `${PEERS}engine-ours.ts`]);
    await engine.call({ op: 'load', shape, dtype: 'bfloat16', quantization: 'none', threads: 1 });
    for (const pass of [
      { op: 'decode', sequences: 2, context: 5, times: 3, warmUp: true },
      { op: 'prefill', tokens: 7, times: 2, warmUp: false },
    ] as const) {
      const { seconds = [] } = await engine.call(pass);
      expect(seconds).toHaveLength(pass.times);
      expect(Math.min(...seconds)).toBeGreaterThan(0);
    }
    const bytes = async (context: number) =>
      (await engine?.call({ op: 'bytes', sequences: 2, context }))?.bytes ?? NaN;
    // Keys and values of one layer with one head of 32, two bytes each.
    expect((await bytes(6)) - (await bytes(5))).toBe(2 * 2 * 32 * 2);
  });

  it('names the engine, what it was asked and what is wrong', async () => {
    engine = new EngineProcess('ours', [process.execPath, `${PEERS}engine-ours.ts`]);
    await expect(engine.call({ op: 'prefill', tokens: 1, times: 1, warmUp: false })).rejects.toThrow(
      'ours, prefill: nothing is loaded',
    );
  });

  it('tells when the engine ends', async () => {
    engine = new EngineProcess('gone', [process.execPath, '-e', 'process.exit(1)']);
    await expect(engine.call({ op: 'image', times: 1, warmUp: false })).rejects.toThrow(
      "gone ended during 'image'",
    );
  });
});
