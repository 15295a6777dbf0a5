// What goes wrong between the operator and the API server: nothing wrong may come of it, and all is well once it is over.
import { describe, expect, it } from 'vitest';
import { SERVICES } from '../../operator/kube/resources.ts';
import { faultyNamespaceForEachTest, said, type FaultyNamespace } from '../support/each-test.ts';
import type { Fault, FaultProxy, ProxiedRequest } from '../support/fault-proxy.ts';
import { eventually, managed, type OperatorProcess } from '../support/operator-process.ts';
import { seededRandom } from '../support/seeded-random.ts';
import type { TestNamespace } from '../support/test-namespace.ts';

let world: TestNamespace;
let proxy: FaultProxy;
let operator: FaultyNamespace['operator'];
faultyNamespaceForEachTest((made) => {
  ({ world, proxy } = made);
  operator = (flags) => made.operator(flags);
});

/** Deletes the router's Service and waits until it is there again: the operator sees and acts. */
async function acts(): Promise<void> {
  const key = `${world.name}/demo-router`;
  const { metadata } = await world.client.get<{ metadata: { uid: string } }>(SERVICES, key);
  await world.client.remove(SERVICES, key);
  await eventually(async () => {
    const made = await world.client.get<{ metadata: { uid: string } }>(SERVICES, key);
    expect(made.metadata.uid).not.toBe(metadata.uid);
  }, 90_000);
}

describe('watches', () => {
  it('that are cut again and again go on where they were', async () => {
    const process = await operator();
    world.routers();
    await world.apply();
    await world.settled();
    const before = await world.uids();
    for (let cut = 0; cut < 3; cut++) {
      proxy.cutWatches();
      await world.patch({ spec: { replicas: cut % 2 === 0 ? 3 : 2 } });
      await world.settled();
    }
    await acts();
    expect((await world.uids()).filter((uid) => before.includes(uid))).toEqual(before);
    expect(said(process, 'deleted')).toHaveLength(2);
  });

  it.each([
    ['as an answer', { kind: 'answer', status: 410, reason: 'Expired' } as const],
    ['in the stream', { kind: 'expired' } as const],
  ])('whose version is forgotten (%s) are begun anew with a list', async (_, fault) => {
    const process = await operator();
    world.routers();
    await world.apply();
    await world.settled();
    const before = await world.uids();
    const expired = new Set<string>();
    proxy.fault = ({ isWatch, path }) => {
      const resource = path.split('?')[0] ?? '';
      if (!isWatch || expired.has(resource)) return undefined;
      expired.add(resource);
      return fault;
    };
    const writes = said(process, 'created').length;
    proxy.cutWatches();
    await world.patch({ metadata: { labels: { a: 'b' } } });
    await eventually(async () => expect(expired.size).toBeGreaterThan(8));
    // What happened in between is in the list.
    await acts();
    await world.settled();
    expect(await world.uids()).toEqual(before);
    expect(said(process, 'deleted')).toEqual([]);
    expect(said(process, 'created').length).toBeGreaterThan(writes);
  });
});

describe('an API server', () => {
  it('that asks to wait is not asked before that', async () => {
    const times = new Map<string, number[]>();
    proxy.fault = ({ isWrite, method, path }) => {
      if (!isWrite) return undefined;
      const id = `${method} ${path}`;
      const seen = times.get(id) ?? [];
      times.set(id, [...seen, performance.now()]);
      return seen.length === 0
        ? { kind: 'answer', status: 429, reason: 'TooManyRequests', retryAfter: 1 }
        : undefined;
    };
    await operator();
    world.routers();
    await world.apply({ replicas: 1 });
    await world.settled();
    const first = [...times.values()].filter(({ length }) => length > 1);
    expect(first.length).toBeGreaterThan(10);
    for (const [refused = 0, again = 0] of first) expect(again - refused).toBeGreaterThanOrEqual(990);
    expect(await world.ranks()).toHaveLength(2);
  });

  it.each([1, 2, 3])(
    'that fails at random (seed %i) delays a creation, a rollout and a scaling, no more',
    async (seed) => {
      const random = seededRandom(seed);
      const faults: readonly Fault[] = [
        { kind: 'answer', status: 500, reason: 'InternalError' },
        { kind: 'answer', status: 503, reason: 'ServiceUnavailable' },
        { kind: 'answer', status: 504, reason: 'Timeout' },
        { kind: 'answer', status: 409, reason: 'Conflict' },
        { kind: 'answer', status: 429, reason: 'TooManyRequests', retryAfter: 1 },
        { kind: 'cut', when: 'before' },
        { kind: 'cut', when: 'after' },
        { kind: 'delay', ms: 300 },
      ];
      proxy.fault = ({ isWatch }: ProxiedRequest) =>
        isWatch || random() > 0.2 ? undefined : faults[Math.floor(random() * faults.length)];
      await operator();
      const routers = world.routers();
      await world.apply();
      await world.settled();
      expect(await world.ranks()).toHaveLength(4);
      await routers.recount();
      await world.patch({ spec: { engine: { maxSequences: 9 } } });
      await world.settled();
      expect(routers.fewestServing).toBe(2);
      expect(routers.mostGroups).toBe(3);
      await world.patch({ spec: { replicas: 1 } });
      await world.settled();
      expect(await world.ranks()).toHaveLength(2);
      expect(routers.fewestServing).toBe(1);
    },
    300_000,
  );
});

describe('an operator', () => {
  it('that cannot see all of its world leaves the Lease to one that can', async () => {
    let refused = 0;
    proxy.fault = ({ path }) => {
      if (!/^\/api\/v1\/nodes\b/.test(path)) return undefined;
      refused += 1;
      return { kind: 'answer', status: 403, reason: 'Forbidden' };
    };
    const blind = await world.operator({ identity: 'blind', kubeconfig: proxy.kubeconfig });
    await eventually(async () => expect(refused).toBeGreaterThan(1));
    const seeing = await world.operator({ identity: 'seeing' });
    await seeing.said('reconciling');
    expect(said(blind, 'synced')).toEqual([]);
    proxy.fault = () => undefined;
    await blind.said(/^waiting for lease .*, held by seeing_/);
  });

  it('that is killed after each single write of a creation leaves what the next one completes', async () => {
    world.routers();
    // There is no node for its pods yet: of a group whose first rank runs, an operator that comes later cannot know that the others were never made.
    await world.apply(world.onGpus());
    let kills = 0;
    const settled = world.says('Ready', /rank 0: Unschedulable/, { timeoutMs: 300_000 }).then(
      () => 'settled',
      () => 'stuck',
    );
    for (;;) {
      let current: OperatorProcess | undefined;
      let killed = false;
      // The write is carried out, and the operator never hears of it.
      proxy.fault = ({ isWrite }) => {
        if (!isWrite || current === undefined) return undefined;
        if (killed) return { kind: 'cut', when: 'before' };
        killed = true;
        current.kill('SIGKILL');
        return { kind: 'cut', when: 'after' };
      };
      current = await operator(['--placement-timeout-ms', '600000']);
      const how = await Promise.race([current.ended, settled]);
      if (how !== 'SIGKILL') {
        expect(how).toBe('settled');
        current.kill('SIGKILL');
        break;
      }
      kills += 1;
      expect(kills).toBeLessThan(80);
    }
    // Accounts, Role, Services, ConfigMaps, budget, policies, the router, four pods and the status.
    expect(kills).toBeGreaterThanOrEqual(15);
    const pods = await world.ranks();
    expect(pods).toHaveLength(4);
    expect((await world.groups()).size).toBe(2);
    const objects = await managed(world.plane, world.name);
    expect(objects.filter(({ metadata }) => metadata.deletionTimestamp !== undefined)).toEqual([]);
    const writes = await world.audited();
    expect(writes.filter((write) => write.startsWith('delete'))).toEqual([]);
    expect(writes.filter((write) => write.startsWith('create pods'))).toHaveLength(4);
    proxy.fault = () => undefined;
    await operator();
    await world.nodes(1, 4);
    await world.settled();
    expect(new Set(await world.uids())).toEqual(new Set(pods.map(({ metadata }) => metadata?.uid)));
  }, 400_000);
});
