// Every gRPC port of a deployment explains itself to a client that has no files, as grpcurl does it; and what its processes hold in memory.

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { credentials, loadPackageDefinition, type Client, type GrpcObject } from '@grpc/grpc-js';
import { loadFileDescriptorSetFromBuffer, loadSync } from '@grpc/proto-loader';
import { protoPath as healthProto } from 'grpc-health-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Served } from '../../support/served.ts';
import { goldenAnswers, requestOf } from '../../support/served-golden.ts';

const MIB = 2 ** 20;
const HEALTH = 'grpc.health.v1.Health';

let served: Served;
const clients: Client[] = [];

beforeAll(async () => {
  served = await Served.start({ checkpoint: 'tiny', tensorParallelSize: 2 });
});

afterAll(async () => {
  for (const client of clients) client.close();
  expect(await served?.stop()).toEqual({ code: 0, left: [] });
});

type Stub = Client & Record<string, (...args: unknown[]) => unknown>;

/** A client of a service by its full name, from definitions that were read or received. */
function stubOf(definitions: GrpcObject, service: string, address: string): Stub {
  let at: unknown = definitions;
  for (const part of service.split('.')) at = (at as Record<string, unknown>)[part];
  const stub = new (at as new (...args: unknown[]) => Stub)(address, credentials.createInsecure(), {
    'grpc.enable_http_proxy': 0,
  });
  clients.push(stub);
  return stub;
}

function call(stub: Stub, method: string, request: object): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    stub[method]!(request, (error: Error | null, answer: Record<string, unknown>) =>
      error === null ? resolve(answer) : reject(error),
    );
  });
}

/** What reflection of this version tells: the services, and everything needed to call one. */
class Reflection {
  readonly #stub: Stub;

  constructor(address: string, version: 'v1' | 'v1alpha') {
    const proto = fileURLToPath(
      new URL(
        `../../../node_modules/@grpc/reflection/build/proto/grpc/reflection/${version}/reflection.proto`,
        import.meta.url,
      ),
    );
    const service = `grpc.reflection.${version}.ServerReflection`;
    this.#stub = stubOf(loadPackageDefinition(loadSync(proto)), service, address);
  }

  async services(): Promise<string[]> {
    const { listServicesResponse } = (await this.#ask({ listServices: '*' })) as {
      listServicesResponse: { service: { name: string }[] };
    };
    return listServicesResponse.service.map(({ name }) => name).toSorted();
  }

  async describe(symbol: string): Promise<GrpcObject> {
    const { fileDescriptorResponse } = (await this.#ask({ fileContainingSymbol: symbol })) as {
      fileDescriptorResponse: { fileDescriptorProto: Buffer[] };
    };
    // FileDescriptorSet: the files as its field 1.
    const set = fileDescriptorResponse.fileDescriptorProto.map((file) =>
      Buffer.concat([Buffer.from([0x0a, ...varint(file.length)]), file]),
    );
    return loadPackageDefinition(loadFileDescriptorSetFromBuffer(Buffer.concat(set), { enums: String }));
  }

  async #ask(question: object): Promise<unknown> {
    const stream = this.#stub['serverReflectionInfo']!() as AsyncIterable<unknown> & {
      write(question: object): void;
      end(): void;
    };
    stream.write(question);
    stream.end();
    for await (const answer of stream) return answer;
    throw new Error('reflection gave no answer');
  }
}

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)];
}

describe('the port of', () => {
  const PORTS = [
    ['the router', 'internvl.v1.Inference', () => served.endpoints.grpc],
    ['rank 0', 'internvl.engine.v1.Engine', () => served.flag(served.replicas[0]![0]!, '--listen')],
    ['rank 1', 'internvl.shard.v1.Shard', () => served.flag(served.replicas[0]![1]!, '--listen')],
  ] as const;

  it.each(PORTS)('%s tells that it serves', async (_, service, address) => {
    const health = stubOf(
      loadPackageDefinition(loadSync(healthProto, { enums: String })),
      HEALTH,
      await address(),
    );
    expect(await call(health, 'check', { service: '' })).toEqual({ status: 'SERVING' });
    expect(await call(health, 'check', { service })).toEqual({ status: 'SERVING' });
  });

  it.each(PORTS)('%s lists and describes its services', async (_, service, address) => {
    for (const version of ['v1', 'v1alpha'] as const) {
      const reflection = new Reflection(await address(), version);
      expect(await reflection.services()).toEqual([HEALTH, service]);
      const definitions = await reflection.describe(service);
      expect(stubOf(definitions, service, await address())).toBeDefined();
      const health = stubOf(await reflection.describe(HEALTH), HEALTH, await address());
      expect(await call(health, 'check', {})).toEqual({ status: 'SERVING' });
    }
  });

  it('the router can be called by what it describes', async () => {
    const service = 'internvl.v1.Inference';
    const inference = stubOf(
      await new Reflection(served.endpoints.grpc, 'v1').describe(service),
      service,
      served.endpoints.grpc,
    );
    expect(await call(inference, 'getModel', {})).toMatchObject({
      name: 'served',
      tensor_parallel_size: 2,
      replicas: [{ state: 'REPLICA_STATE_READY' }],
    });
    const parts = [{ text: 'Hello, who are you?' }];
    const answer = await call(inference, 'generateOnce', {
      messages: [{ role: 'ROLE_USER', parts }],
      sampling: { max_tokens: 4, temperature: 0 },
    });
    expect(answer['token_ids']).toEqual([609, 511, 940, 178]);
  });
});

describe('memory', () => {
  it('of a rank is at most its weights, its KV cache and 250 MiB; of the router at rest below 150 MiB', async () => {
    const resident = async (name: string): Promise<number> => {
      const text = await readFile(`/proc/${served.pid(name)}/status`, 'utf8');
      return (Number(/^VmRSS:\s+(\d+) kB$/m.exec(text)?.[1]) * 1024) / MIB;
    };
    const atRest = await resident('router');
    const answers = goldenAnswers('tiny');
    await Promise.all([...answers, ...answers].map((answer) => served.generate(requestOf(answer)).ended));
    const [leader = '', follower = ''] = served.replicas[0] ?? [];
    const ranks = [await resident(leader), await resident(follower)];
    console.log({ atRest, router: await resident('router'), ranks }); // the figures are worth a line of the log
    const blocks = await served.metric(leader, 'internvl_kv_cache_blocks');
    // Two of: 3 layers, 1 key/value head on each rank, 8 dimensions, 4 bytes; 16 tokens a block.
    const kvCache = (blocks * 16 * 2 * 3 * 1 * 8 * 4) / MIB;
    for (const rank of ranks) expect(rank).toBeLessThan(4 + kvCache + 250);
    expect(atRest).toBeLessThan(150);
  });
});
