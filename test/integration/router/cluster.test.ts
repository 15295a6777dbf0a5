// Replicas that come and go as pods do, under traffic.

import { credentials, status } from '@grpc/grpc-js';
import { afterEach, describe, expect, it } from 'vitest';
import { InferenceClient, ReplicaState } from '../../../gen/proto/internvl/v1/inference.ts';
import { readInterconnect } from '../../../operator/interconnect-report.ts';
import { interconnectVerdict } from '../../../operator/measured-interconnect.ts';
import { clientChannelOptions } from '../../../rpc/channel.ts';
import { createLogger } from '../../../rpc/log.ts';
import { Cluster } from '../../../router/cluster.ts';
import { parseConfig } from '../../../router/config.ts';
import { Router } from '../../../router/router.ts';
import { aDeployment } from '../../support/deployment.ts';
import { FakeReplica, type FakeReplicaOptions } from '../../support/fake-replica.ts';
import { PodApi, type FakePod } from '../../support/pod-api.ts';
import { ask, Stream, until } from './harness.ts';

const ANSWER = 'The quick brown fox jumps over the lazy dog.';
const LONG = { ignoreEos: true, maxTokens: 300 };

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

// All pods have the same port, so each gets a loopback address of its own.
let hosts = 0;
function freshHost(): string {
  hosts++;
  return `127.${1 + (process.pid % 250)}.${Math.floor(process.pid / 250) % 250}.${hosts}`;
}

interface Started {
  readonly api: PodApi;
  readonly router: Router;
  readonly client: InferenceClient;
}

async function start(...flags: string[]): Promise<Started> {
  const api = await PodApi.start();
  cleanups.push(() => api.close());
  const config = parseConfig(
    [
      '--listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 --served-name m',
      '--namespace models --deployment-label demo --report-config-map demo-routers',
      '--pod-name demo-router-1 --pod-uid router-uid',
      ...flags,
    ]
      .join(' ')
      .split(' '),
  );
  const logger = createLogger({ level: 'error', format: 'json' });
  const cluster = new Cluster(config.discovery!, logger, api.kubeConfig());
  const router = new Router(config, { logger, cluster });
  const address = await router.start();
  const client = new InferenceClient(
    address,
    credentials.createInsecure(),
    clientChannelOptions({ maxMessageBytes: 128 << 20, ownConnection: true }),
  );
  cleanups.push(async () => {
    client.close();
    await router.stop();
  });
  return { api, router, client };
}

interface Pod {
  readonly replica: FakeReplica;
  readonly pod: FakePod;
}

async function startPod(
  api: PodApi,
  group: string,
  uid: string,
  options: FakeReplicaOptions = {},
): Promise<Pod> {
  const host = freshHost();
  const replica = await FakeReplica.start({ ...options, host, port: 50051 });
  cleanups.push(() => replica.kill());
  const pod = { group, uid, ip: host };
  api.put(pod);
  return { replica, pod };
}

/** As a pod ends: deleted, its process finishes what it runs, then both are gone. */
async function deletePod(api: PodApi, { replica, pod }: Pod): Promise<void> {
  api.put({ ...pod, deleting: true });
  replica.drain();
  await until(() => replica.running === 0);
  await replica.kill();
  api.remove(pod.group);
}

const stateOf = (router: Router, name: string): ReplicaState | undefined =>
  router.replicas.find((replica) => replica.name === name)?.state;
const ready = (router: Router, name: string): Promise<void> =>
  until(() => stateOf(router, name) === ReplicaState.READY);

/** Requests without pause until stopped, `width` at once. */
class Traffic {
  readonly streams: Stream[] = [];
  #on = true;
  readonly #workers: Promise<void>[];

  constructor(client: InferenceClient, width = 4) {
    this.#workers = Array.from({ length: width }, async () => {
      while (this.#on) {
        const stream = new Stream(client.generate(ask()));
        this.streams.push(stream);
        await stream.end();
      }
    });
  }

  get finished(): number {
    return this.streams.filter(({ finished }) => finished !== undefined).length;
  }

  /** Resolves when so many more requests have had their answers. */
  async flows(count = 8): Promise<void> {
    const before = this.finished;
    await until(() => this.finished >= before + count);
  }

  async stop(): Promise<void> {
    this.#on = false;
    await Promise.all(this.#workers);
    expect(this.streams.map(({ error }) => error?.message).filter((error) => error !== undefined)).toEqual(
      [],
    );
    for (const stream of this.streams) expect(stream.text).toBe(ANSWER);
  }
}

describe('scale', () => {
  it('0 -> 2 -> 1 -> 0 -> 1 loses no request', async () => {
    const { api, router, client } = await start();
    const readyz = (): Promise<number> =>
      fetch(`http://${router.metricsAddress}/readyz`).then((response) => response.status);
    const healthz = (): Promise<number> =>
      fetch(`http://${router.metricsAddress}/healthz`).then((response) => response.status);
    expect([await readyz(), await healthz()]).toEqual([503, 200]);
    const traffic = new Traffic(client);
    const first = await startPod(api, 'demo-0', 'u-0');
    const second = await startPod(api, 'demo-1', 'u-1');
    await ready(router, 'demo-0');
    await ready(router, 'demo-1');
    expect(await readyz()).toBe(200);
    await traffic.flows();
    await deletePod(api, first);
    await until(() => router.replicas.length === 1);
    await traffic.flows();
    expect(await router.metrics.registry.metrics()).not.toContain('demo-0');
    await deletePod(api, second);
    await until(() => router.replicas.length === 0);
    expect([await readyz(), await healthz()]).toEqual([200, 200]);
    await until(() => router.live === 4);
    await startPod(api, 'demo-0', 'u-2');
    await traffic.flows();
    await traffic.stop();
  });

  it('without any replica a request waits as long as it may and is told why not', async () => {
    const { client, api, router } = await start('--queue-max-wait-ms 300');
    const never = await new Stream(client.generate(ask())).end();
    expect([never.error?.code, never.reason]).toEqual([status.UNAVAILABLE, 'NO_REPLICA']);
    const only = await startPod(api, 'demo-0', 'u-0');
    await ready(router, 'demo-0');
    await deletePod(api, only);
    await until(() => router.replicas.length === 0);
    const later = await new Stream(client.generate(ask())).end();
    expect([later.error?.code, later.reason]).toEqual([status.UNAVAILABLE, 'NO_REPLICA']);
    expect(later.error?.details).toContain('there is none');
  });
});

describe('the interconnect of a replica', () => {
  it('goes from rank 0 through the report into the condition', async () => {
    const { api } = await start();
    const interconnect = {
      backend: 'cuda',
      path: 'NET/Socket/0',
      direct: false,
      busGigabytesPerSecond: 4.1999,
      reducedBytes: 1 << 20,
      latencyUs: 160,
      failedGates: [{ gate: 'SameSharedMemory', message: '/dev/shm is not one; mount one' }],
    };
    await startPod(api, 'demo-0', 'u-0', { info: { interconnect } });
    await until(() => api.reported('demo-0')?.interconnect !== undefined);
    const report = readInterconnect(api.reported('demo-0')?.interconnect);
    expect(report).toMatchObject({
      path: 'NET/Socket/0',
      busGigabytesPerSecond: 4.2,
      latencyMicroseconds: 160,
    });
    const deployment = aDeployment({
      device: { deviceClassName: 'gpu' },
      tensorParallel: { size: 2 },
    });
    expect(interconnectVerdict(deployment, [{ name: 'demo-0', report: report! }], new Map())).toEqual({
      status: 'False',
      reason: 'SameSharedMemory',
      message: 'replica demo-0: /dev/shm is not one; mount one',
    });
  });
});

describe('drain', () => {
  it('finishes what runs, reports draining then drained, and is undone', async () => {
    const { api, router, client } = await start();
    const { replica, pod } = await startPod(api, 'demo-0', 'u-0', { stepMs: 5 });
    await until(() => api.reported('demo-0')?.state === 'ready');
    expect(api.reported('demo-0')).toEqual({ podUid: 'u-0', state: 'ready', message: '' });
    const running = await new Stream(client.generate(ask({ sampling: LONG }))).tokens();
    api.put({ ...pod, drain: true });
    await until(() => api.reported('demo-0')?.state === 'draining');
    const before = replica.submits.length;
    // The last replica drains: what comes now waits.
    const waiting = new Stream(client.generate(ask()));
    await until(() => router.live === 2);
    await running.end();
    expect([running.error, running.tokenIds.length]).toEqual([undefined, 300]);
    await until(() => api.reported('demo-0')?.state === 'drained');
    expect(replica.submits.length).toBe(before);
    expect(waiting.ended).toBe(false);
    api.put(pod);
    expect((await waiting.end()).text).toBe(ANSWER);
    // A probe came first.
    expect(replica.submits[before]!.sampling).toMatchObject({ maxTokens: 1 });
    await until(() => api.reported('demo-0')?.state === 'ready');
  });

  it('that comes and goes under traffic loses nothing and reports the last word', async () => {
    const { api, router, client } = await start();
    const { pod, replica } = await startPod(api, 'demo-0', 'u-0');
    await startPod(api, 'demo-1', 'u-1');
    await ready(router, 'demo-0');
    await ready(router, 'demo-1');
    const traffic = new Traffic(client, 8);
    for (let turn = 0; turn < 20; turn++) {
      api.put({ ...pod, drain: turn % 2 === 0 });
      await traffic.flows(2);
    }
    await until(() => api.reported('demo-0')?.state === 'ready');
    await traffic.stop();
    expect([replica.creditViolations, replica.duplicateHandles]).toEqual([0, 0]);
  });

  it('of a replica that refuses what crossed with its drain costs no request anything', async () => {
    const { api, router, client } = await start();
    const { replica } = await startPod(api, 'demo-0', 'u-0');
    await startPod(api, 'demo-1', 'u-1');
    await ready(router, 'demo-0');
    await ready(router, 'demo-1');
    replica.reject = () => ({ code: status.UNAVAILABLE, reason: 'DRAINING', message: 'draining' });
    const traffic = new Traffic(client, 8);
    await until(() => stateOf(router, 'demo-0') === ReplicaState.DRAINING);
    await traffic.flows(20);
    await traffic.stop();
    expect(await router.metrics.registry.metrics()).toContain('internvl_router_retries_total 0');
  });
});

describe('a pod that goes', () => {
  it('finishes answers that have begun; what it had not begun is answered elsewhere', async () => {
    const { api, router, client } = await start();
    const old = await startPod(api, 'demo-0', 'u-0', { stepMs: 5 });
    await ready(router, 'demo-0');
    const begun = await new Stream(client.generate(ask({ sampling: LONG }))).tokens();
    old.replica.stalled = true;
    const notBegun = new Stream(client.generate(ask()));
    await until(() => notBegun.started !== undefined);
    // The same name, another uid, another address.
    api.remove('demo-0');
    const fresh = await startPod(api, 'demo-0', 'u-new');
    expect((await notBegun.end()).text).toBe(ANSWER);
    expect(fresh.replica.submits.length).toBe(2);
    old.replica.resume();
    await begun.end();
    expect([begun.error, begun.tokenIds.length]).toEqual([undefined, 300]);
    await until(() => old.replica.sessions === 0);
    await until(
      () => api.reported('demo-0')?.podUid === 'u-new' && api.reported('demo-0')?.state === 'ready',
    );
  });

  it('and dies before another one is there costs nothing that had not begun', async () => {
    const { api, router, client } = await start();
    const old = await startPod(api, 'demo-0', 'u-0');
    await ready(router, 'demo-0');
    old.replica.stalled = true;
    const streams = Array.from({ length: 3 }, () => new Stream(client.generate(ask())));
    await until(() => old.replica.running === 3);
    api.put({ ...old.pod, deleting: true });
    await until(() => stateOf(router, 'demo-0') === ReplicaState.DRAINING);
    await old.replica.kill();
    await startPod(api, 'demo-1', 'u-1');
    for (const stream of streams) expect((await stream.end()).text).toBe(ANSWER);
  });
});

describe('the API server', () => {
  it('may be away: what was seen last stays, and what changed is seen when it is back', async () => {
    const { api, router, client } = await start();
    const first = await startPod(api, 'demo-0', 'u-0');
    await until(() => api.reported('demo-0')?.state === 'ready');
    const traffic = new Traffic(client);
    api.goAway();
    await traffic.flows(30);
    await startPod(api, 'demo-1', 'u-1');
    await traffic.flows();
    expect(router.replicas.map(({ name }) => name)).toEqual(['demo-0']);
    api.comeBack();
    await ready(router, 'demo-1');
    await deletePod(api, first);
    await traffic.flows();
    await traffic.stop();
    await until(() => api.reported('demo-1')?.state === 'ready' && api.reported('demo-0') === undefined);
  });

  it('is asked for the rank pods of one deployment, and is not written to at rest', async () => {
    const { api, client, router } = await start();
    await startPod(api, 'demo-0', 'u-0');
    await until(() => api.reported('demo-0')?.state === 'ready');
    const lists = api.requests.filter((request) => request.startsWith('GET') && !request.includes('watch='));
    expect(lists).toHaveLength(1);
    expect(lists[0]).toContain('internvl.dev/deployment=demo,app.kubernetes.io/component=runtime');
    const written = api.reports.length;
    const traffic = new Traffic(client);
    await traffic.flows(200);
    await traffic.stop();
    expect(api.reports.length).toBe(written);
    expect(router.live).toBe(0);
  });
});

describe('another model', () => {
  const OTHER = { info: { modelFingerprint: 'model-2' } };

  it('comes beside the old one and takes over without a lost request', async () => {
    const { api, router, client } = await start();
    const old = await startPod(api, 'demo-a-0', 'u-0');
    await ready(router, 'demo-a-0');
    const traffic = new Traffic(client, 8);
    await traffic.flows();
    await startPod(api, 'demo-b-0', 'u-1', OTHER);
    await until(() => api.reported('demo-b-0')?.state === 'ready');
    await traffic.flows(20);
    api.put({ ...old.pod, drain: true });
    await until(() => api.reported('demo-a-0')?.state === 'drained');
    await deletePod(api, old);
    await traffic.flows(20);
    // The old model is let go, so that there is room for the next.
    await startPod(api, 'demo-c-0', 'u-2', { info: { modelFingerprint: 'model-3' } });
    await until(() => api.reported('demo-c-0')?.state === 'ready');
    await traffic.stop();
  });

  it('in the place of the old one answers what waited for that', async () => {
    const { api, router, client } = await start();
    const old = await startPod(api, 'demo-a-0', 'u-0');
    await ready(router, 'demo-a-0');
    await deletePod(api, old);
    await until(() => router.replicas.length === 0);
    const waiting = Array.from({ length: 5 }, () => new Stream(client.generate(ask())));
    await until(() => router.live === 5);
    await startPod(api, 'demo-b-0', 'u-1', OTHER);
    for (const stream of waiting) expect((await stream.end()).text).toBe(ANSWER);
  });

  it('a third one at once is incompatible, and says so', async () => {
    const { api } = await start();
    await startPod(api, 'demo-a-0', 'u-0');
    await startPod(api, 'demo-b-0', 'u-1', OTHER);
    await until(
      () => api.reported('demo-a-0')?.state === 'ready' && api.reported('demo-b-0')?.state === 'ready',
    );
    await startPod(api, 'demo-c-0', 'u-2', { info: { modelFingerprint: 'model-3' } });
    await until(() => api.reported('demo-c-0')?.state === 'incompatible');
    expect(api.reported('demo-c-0')!.message).toContain('its model fingerprint is model-3');
  });
});
