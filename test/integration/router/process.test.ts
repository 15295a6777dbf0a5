import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { credentials, loadPackageDefinition, type Client, type ServiceError } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { protoPath } from 'grpc-health-check';
import { afterEach, describe, expect, it } from 'vitest';
import { InferenceClient } from '../../../gen/proto/internvl/v1/inference.ts';
import { FakeReplica } from '../../support/fake-replica.ts';
import { ask, Stream, until } from './harness.ts';

const MAIN = fileURLToPath(new URL('../../../router/main.ts', import.meta.url));

interface LogLine {
  readonly message: string;
  readonly [field: string]: unknown;
}

/** A router process and what it wrote. */
class RouterProcess {
  readonly child: ChildProcess;
  readonly lines: LogLine[] = [];
  stderr = '';

  constructor(args: readonly string[]) {
    this.child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let rest = '';
    this.child.stdout!.on('data', (chunk: Buffer) => {
      const parts = (rest + chunk.toString()).split('\n');
      rest = parts.pop()!;
      for (const part of parts) this.lines.push(JSON.parse(part) as LogLine);
    });
    this.child.stderr!.on('data', (chunk: Buffer) => (this.stderr += chunk.toString()));
  }

  find(message: string): LogLine | undefined {
    return this.lines.find((line) => line.message === message);
  }

  async listening(): Promise<{ address: string; metrics: string }> {
    await until(() => this.find('listening') !== undefined);
    return this.find('listening') as unknown as { address: string; metrics: string };
  }

  async exit(): Promise<number | null> {
    if (this.child.exitCode === null) await once(this.child, 'exit');
    return this.child.exitCode;
  }
}

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

function startRouter(...args: string[]): RouterProcess {
  const router = new RouterProcess(args);
  cleanups.push(() => router.child.exitCode === null && router.child.kill('SIGKILL'));
  return router;
}

async function startReplica(options: Parameters<typeof FakeReplica.start>[0] = {}): Promise<FakeReplica> {
  const replica = await FakeReplica.start(options);
  cleanups.push(() => replica.kill());
  return replica;
}

async function health(address: string, service: string): Promise<string> {
  const definition = loadPackageDefinition(loadSync(protoPath, { enums: String })) as unknown as {
    grpc: { health: { v1: { Health: new (address: string, credentials: unknown) => Client } } };
  };
  const client = new definition.grpc.health.v1.Health(address, credentials.createInsecure()) as Client & {
    check(
      request: { service: string },
      callback: (error: ServiceError | null, response: { status: string }) => void,
    ): void;
  };
  try {
    return await new Promise((resolve, reject) => {
      client.check({ service }, (error, response) =>
        error === null ? resolve(response.status) : reject(error),
      );
    });
  } finally {
    client.close();
  }
}

/** The tiny checkpoint's tokenizer with made-up pieces appended: a SentencePiece model is a protobuf message, so that appending adds. */
function filesWithVocabulary(pieces: number): ReadonlyMap<string, Uint8Array> {
  const read = (name: string): Buffer =>
    readFileSync(fileURLToPath(new URL(`../../fixtures/checkpoints/tiny/${name}`, import.meta.url)));
  const parts = [read('tokenizer.model')];
  for (let index = 0; index < pieces; index++) {
    const text = Buffer.from(`piece${index}`);
    const score = Buffer.alloc(4);
    score.writeFloatLE(-index);
    parts.push(Buffer.from([0x0a, text.length + 7, 0x0a, text.length]), text, Buffer.from([0x15]), score);
  }
  return new Map([
    ['tokenizer.model', Buffer.concat(parts)],
    ['config.json', read('config.json')],
  ]);
}

describe('the router process', () => {
  it('serves, says so, and drains on SIGTERM', async () => {
    const replica = await startReplica({ stepMs: 5 });
    const router = startRouter(
      '--listen',
      '127.0.0.1:0',
      '--metrics-listen',
      '127.0.0.1:0',
      '--replica',
      `a=${replica.address}`,
    );
    const { address, metrics } = await router.listening();
    await until(() => router.find('replica ready') !== undefined);
    expect(router.find('replica ready')).toMatchObject({ replica: 'a' });
    for (const service of ['', 'internvl.v1.Inference'])
      expect(await health(address, service)).toBe('SERVING');

    const client = new InferenceClient(address, credentials.createInsecure());
    cleanups.push(() => client.close());
    const finished = await new Stream(client.generate(ask({ sampling: { maxTokens: 2 } }))).end();
    expect(finished.error).toBeUndefined();
    const scraped = await (await fetch(`http://${metrics}/metrics`)).text();
    for (const line of [
      'internvl_router_requests_total{code="OK"} 1',
      'internvl_router_replica_state{replica="a",state="ready"} 1',
      'internvl_router_replica_credits{replica="a"} 64',
      'internvl_router_queue_depth 0',
      'internvl_router_completion_tokens_total 2',
      'internvl_router_time_to_first_token_seconds_count 1',
    ]) {
      expect(scraped).toContain(line);
    }
    expect((await fetch(`http://${metrics}/healthz`)).status).toBe(200);

    const running = await new Stream(
      client.generate(ask({ sampling: { ignoreEos: true, maxTokens: 100 } })),
    ).tokens();
    router.child.kill('SIGTERM');
    await until(() => router.find('draining') !== undefined);
    await running.end();
    expect(running.error).toBeUndefined();
    expect(running.tokenIds).toHaveLength(100);
    expect(await router.exit()).toBe(0);
    expect(router.find('stopped')).toBeDefined();
  });

  it('takes less than 150 MiB at rest, with a vocabulary as large as the published one', async () => {
    const replica = await startReplica({ files: filesWithVocabulary(64_000) });
    const router = startRouter('--listen', '127.0.0.1:0', '--replica', `a=${replica.address}`);
    await until(() => router.find('replica ready') !== undefined);
    const status = readFileSync(`/proc/${router.child.pid}/status`, 'utf8');
    expect(Number(/VmRSS:\s+(\d+) kB/.exec(status)![1]!) / 1024).toBeLessThan(150);
  });

  it('says that a replica is lost, and is not healthy without one', async () => {
    const replica = await startReplica();
    const router = startRouter(
      '--listen',
      '127.0.0.1:0',
      '--metrics-listen',
      '127.0.0.1:0',
      '--replica',
      `a=${replica.address}`,
    );
    const { address, metrics } = await router.listening();
    await until(() => router.find('replica ready') !== undefined);
    await replica.kill();
    await until(() => router.find('replica lost') !== undefined);
    expect(router.find('replica lost')).toMatchObject({ replica: 'a', err: expect.any(String) });
    expect(await health(address, '')).toBe('NOT_SERVING');
    expect((await fetch(`http://${metrics}/healthz`)).status).toBe(503);
  });

  it('exits with 2 and its usage on bad flags', async () => {
    const router = startRouter('--listen', 'nowhere');
    expect(await router.exit()).toBe(2);
    expect(router.stderr).toContain("--listen: 'nowhere' is not HOST:PORT");
    expect(router.stderr).toContain('usage:');
  });

  it.each(['--listen', '--metrics-listen'])(
    'exits with 4 when the port of %s is taken, and names it',
    async (flag) => {
      const taken = createServer().listen(0, '127.0.0.1');
      cleanups.push(() => taken.close());
      await once(taken, 'listening');
      const address = `127.0.0.1:${(taken.address() as AddressInfo).port}`;
      const other = flag === '--listen' ? [] : ['--listen', '127.0.0.1:0'];
      const router = startRouter(flag, address, ...other, '--replica', 'a=127.0.0.1:1');
      expect(await router.exit()).toBe(4);
      expect(JSON.stringify(router.find('fatal'))).toContain(address);
    },
  );
});
