import { describe, expect, it } from 'vitest';
import { aDeployment, PLAN_CONFIG } from '../test/support/deployment.ts';
import { apiError, RecordedCluster, type Write } from '../test/support/recorded-cluster.ts';
import { addNode, worldMoves } from '../test/support/recorded-world.ts';
import { ANNOTATIONS, LABELS, ROUTER_ACKNOWLEDGED } from './api.ts';
import { events } from './events.ts';
import { TransportError } from './kube/errors.ts';
import { routerName, routersConfigMapName } from './names.ts';
import { plan } from './plan.ts';
import { Reconciler } from './reconcile.ts';
import { status } from './status.ts';

const KEY = 'vision/demo';
const DEMO = { name: 'demo', namespace: 'vision' };
const signal = new AbortController().signal;

interface Setup {
  readonly cluster: RecordedCluster;
  readonly logs: { level: string; message: string; fields: Record<string, unknown> }[];
  readonly recorded: string[];
  readonly clock: { now: number };
  reconciler: Reconciler;
  newReconciler(caches?: RecordedCluster['caches']): Reconciler;
}

function setup(spec: Record<string, unknown> = {}, metadata: object = {}): Setup {
  const cluster = new RecordedCluster();
  const logs: Setup['logs'] = [];
  const recorded: string[] = [];
  const clock = { now: Date.parse('2026-01-01T00:00:10Z') };
  const log = (level: string) => (message: string, fields?: object) =>
    logs.push({ level, message, fields: (fields ?? {}) as Record<string, unknown> });
  let ids = 0;
  const newReconciler = (caches = cluster.caches): Reconciler =>
    new Reconciler({
      caches,
      writer: cluster.writer,
      decisions: { plan, status, events },
      config: PLAN_CONFIG,
      record: (_deployment, { reason }) => recorded.push(reason),
      onStatus: () => undefined,
      log: { debug: log('debug'), info: log('info'), warn: log('warn'), error: log('error') },
      now: () => clock.now,
      newId: () => `id-${(ids += 1)}`,
    });
  addNode(cluster);
  const deployment = aDeployment({ tensorParallel: { size: 2 }, replicas: 2, ...spec });
  cluster.put({ ...deployment, metadata: { ...deployment.metadata, generation: 1, ...metadata } } as never);
  cluster.deliver();
  return { cluster, logs, recorded, clock, reconciler: newReconciler(), newReconciler };
}

/** Reconcile, and everything else in the world, in turns, until nothing happens any more. */
async function converge(
  { cluster, clock, ...rest }: Setup,
  reconciler: Reconciler,
  moves = true,
): Promise<void> {
  for (let quiet = 0, turn = 0; quiet < 3; turn += 1) {
    if (turn > 200)
      throw new Error(`no end after ${turn} turns: ${JSON.stringify(cluster.writes.slice(-5))}`);
    cluster.deliver();
    const before = cluster.writes.length;
    clock.now += 1000;
    try {
      const { requeueAfterMs } = await reconciler.reconcile(KEY, signal);
      if (cluster.writes.length === before) clock.now += requeueAfterMs ?? 0;
    } catch (error) {
      rest.logs.push({ level: 'thrown', message: String(error), fields: {} });
    }
    if (moves) worldMoves(cluster, DEMO);
    quiet = cluster.writes.length === before ? quiet + 1 : 0;
  }
}

const rankPodsOf = (cluster: RecordedCluster) =>
  cluster.list('Pod').filter(({ metadata }) => metadata.labels?.[LABELS.component] === 'runtime');
const isServing = (pod: object): boolean =>
  (pod as { status?: { conditions?: { type: string; status: string }[] } }).status?.conditions?.some(
    (condition) => condition.type === ROUTER_ACKNOWLEDGED && condition.status === 'True',
  ) ?? false;
const servingRemoved = (cluster: RecordedCluster): Write[] =>
  cluster.writes.filter(({ verb, kind, serving }) => verb === 'remove' && kind === 'Pod' && serving === true);
const names = (cluster: RecordedCluster): string[] =>
  [...new Set(cluster.writes.map(({ kind, key }) => `${kind} ${key}`))].toSorted();
const conditionOf = (cluster: RecordedCluster, type: string) =>
  (
    cluster.get('InternVLDeployment', KEY)?.['status'] as
      { conditions?: { type: string; status: string; reason: string; message: string }[] } | undefined
  )?.conditions?.find((condition) => condition.type === type);

describe('a reconcile', () => {
  it('makes everything, and nothing a second time', async () => {
    const world = setup();
    await converge(world, world.reconciler);
    const { cluster } = world;
    expect(rankPodsOf(cluster)).toHaveLength(4);
    expect(cluster.get('Deployment', `vision/${routerName('demo')}`)).toBeDefined();
    expect(conditionOf(cluster, 'Ready')).toMatchObject({ status: 'True', reason: 'AllReplicasReady' });
    const writes = cluster.writes.length;
    cluster.deliver();
    expect(await world.newReconciler().reconcile(KEY, signal)).toEqual({});
    expect(cluster.writes.length).toBe(writes);
    expect(world.logs.filter(({ level }) => level !== 'info')).toEqual([]);
  });

  it('says one line of each changed object, with key and reconcile id, and none when nothing is changed', async () => {
    const world = setup();
    await world.reconciler.reconcile(KEY, signal);
    const written = world.cluster.writes.filter(({ subresource }) => subresource !== 'status');
    expect(world.logs.map(({ fields }) => `${String(fields['kind'])} ${String(fields['name'])}`)).toEqual(
      written.map(({ kind, key }) => `${kind} ${key}`),
    );
    expect(
      new Set(world.logs.map(({ fields }) => `${String(fields['key'])} ${String(fields['reconcileId'])}`)),
    ).toEqual(new Set([`${KEY} id-1`]));
  });

  it('makes the revision that pods come from before the pods', async () => {
    const { cluster, reconciler } = setup();
    await reconciler.reconcile(KEY, signal);
    const kinds = cluster.writes.map(({ kind }) => kind);
    expect(cluster.writes[0]).toMatchObject({ verb: 'create', kind: 'ConfigMap' });
    expect(kinds.lastIndexOf('Pod')).toBe(kinds.length - 2); // then the status
  });

  it('decides nothing before the cache shows what it wrote', async () => {
    const world = setup();
    await world.reconciler.reconcile(KEY, signal);
    const writes = world.cluster.writes.length;
    const result = await world.reconciler.reconcile(KEY, signal);
    expect(result.requeueAfterMs).toBeGreaterThan(0);
    expect(world.cluster.writes.length).toBe(writes);
    // A watch that brings nothing for too long is no reason to stand still for ever.
    world.clock.now += 31_000;
    await world.reconciler.reconcile(KEY, signal);
    expect(world.logs.filter(({ level }) => level === 'warn').map(({ message }) => message)).toEqual([
      'cache is behind',
    ]);
  });

  it('leaves a deployment alone that is gone or going', async () => {
    const { cluster, reconciler } = setup({}, { deletionTimestamp: '2026-01-01T00:00:00Z' });
    expect(await reconciler.reconcile(KEY, signal)).toEqual({});
    expect(await reconciler.reconcile('vision/other', signal)).toEqual({});
    expect(cluster.writes).toEqual([]);
  });

  it('writes only that it is paused, once', async () => {
    const world = setup({}, { annotations: { [ANNOTATIONS.paused]: 'true' } });
    await converge(world, world.reconciler, false);
    expect(world.cluster.writes).toEqual([
      { verb: 'apply', kind: 'InternVLDeployment', key: KEY, subresource: 'status' },
    ]);
    expect(conditionOf(world.cluster, 'Progressing')).toMatchObject({ reason: 'Paused' });
  });
});

describe('names that are taken', () => {
  it('does not touch a foreign object, says which it is, and does the rest', async () => {
    const world = setup();
    const key = `vision/${routerName('demo')}`;
    world.cluster.put({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: routerName('demo'), namespace: 'vision' },
    } as never);
    const before = world.cluster.get('Service', key);
    await converge(world, world.reconciler);
    expect(world.cluster.get('Service', key)).toEqual(before);
    expect(rankPodsOf(world.cluster)).toHaveLength(4);
    expect(conditionOf(world.cluster, 'Degraded')).toMatchObject({ status: 'True', reason: 'NameCollision' });
    expect(conditionOf(world.cluster, 'Degraded')?.message).toContain(`Service ${key}`);
    world.cluster.deliver();
    expect((await world.newReconciler().reconcile(KEY, signal)).requeueAfterMs).toBeLessThanOrEqual(60_000);
    expect(world.logs.filter(({ level }) => level === 'thrown')).toEqual([]);
  });

  it('does not touch a foreign pod', async () => {
    const world = setup({ replicas: 1 });
    await world.reconciler.reconcile(KEY, signal);
    const name = rankPodsOf(world.cluster)[0]?.metadata.name ?? '';
    const other = setup({ replicas: 1 });
    const foreign = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace: 'vision', uid: 'foreign' },
    };
    other.cluster.put(foreign);
    await converge(other, other.reconciler, false);
    expect(other.cluster.get('Pod', `vision/${name}`)?.metadata.uid).toBe('foreign');
    expect(conditionOf(other.cluster, 'Degraded')).toMatchObject({ reason: 'NameCollision' });
  });

  it('waits for the children of a deleted deployment of the same name, without saying that anything is wrong', async () => {
    const world = setup();
    const owner = {
      apiVersion: 'internvl.dev/v1alpha1',
      kind: 'InternVLDeployment',
      name: 'demo',
      uid: 'old',
      controller: true,
    };
    const metadata = { name: routerName('demo'), namespace: 'vision', ownerReferences: [owner] };
    world.cluster.put({ apiVersion: 'v1', kind: 'Service', metadata } as never);
    const result = await world.reconciler.reconcile(KEY, signal);
    expect(result.requeueAfterMs).toBeLessThanOrEqual(2000);
    expect(conditionOf(world.cluster, 'Degraded')?.status).not.toBe('True');
    world.cluster.drop('Service', `vision/${routerName('demo')}`);
    await converge(world, world.reconciler);
    expect(conditionOf(world.cluster, 'Ready')).toMatchObject({ status: 'True' });
  });
});

describe('a gate', () => {
  it.each([
    ['fails', apiError(500, 'InternalError', 'try again')],
    ['conflicts', apiError(409, 'Conflict', 'changed since')],
  ])('whose write %s is not told of as passed', async (_, fault) => {
    const world = setup({ replicas: 1 });
    let gates = 0;
    world.cluster.fault = (write, _count, when) => {
      if (when !== 'before' || write.kind !== 'Pod' || write.verb !== 'patch') return;
      gates += 1;
      throw fault;
    };
    await converge(world, world.reconciler);
    expect(gates).toBeGreaterThan(0);
    expect(conditionOf(world.cluster, 'Ready')).toMatchObject({ status: 'False' });
    world.cluster.fault = () => undefined;
    await converge(world, world.reconciler);
    expect(conditionOf(world.cluster, 'Ready')).toMatchObject({ status: 'True' });
  });
});

describe('a drain', () => {
  it('waits for the gate of the group that takes over', async () => {
    const world = setup({ replicas: 1 });
    await converge(world, world.reconciler);
    world.cluster.edit('InternVLDeployment', KEY, (object) => {
      Object.assign(object, { spec: { ...(object['spec'] as object), image: 'runtime:2' } });
      (object.metadata as { generation?: number }).generation = 2;
    });
    const patched: string[] = [];
    let refused = 0;
    world.cluster.fault = ({ verb, kind, subresource }, _count, when) => {
      if (verb !== 'patch' || kind !== 'Pod') return;
      if (when === 'before' && subresource === 'status' && (refused += 1) <= 2)
        throw apiError(409, 'Conflict', 'the object has been modified');
      if (when === 'after') patched.push(subresource === 'status' ? 'gate' : 'drain');
    };
    await converge(world, world.reconciler);
    expect(refused).toBeGreaterThan(2);
    expect(patched.slice(0, 2)).toEqual(['gate', 'drain']);
  });
});

describe('a refusal', () => {
  const quota = () =>
    apiError(
      403,
      'Forbidden',
      'pods "x" is forbidden: exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2',
    );

  it('of a quota stands in the status, ends creating, and is tried again', async () => {
    const world = setup();
    let tried = 0;
    world.cluster.fault = (write, _count, when) => {
      if (when === 'before' && write.kind === 'Pod' && write.verb === 'create' && (tried += 1)) throw quota();
    };
    await expect(world.reconciler.reconcile(KEY, signal)).rejects.toThrow('exceeded quota');
    expect(tried).toBe(1);
    expect(JSON.stringify(world.cluster.get('InternVLDeployment', KEY)?.['status'])).toContain(
      'exceeded quota',
    );
    world.cluster.fault = () => undefined;
    await converge(world, world.reconciler);
    expect(rankPodsOf(world.cluster)).toHaveLength(4);
    expect(JSON.stringify(world.cluster.get('InternVLDeployment', KEY)?.['status'])).not.toContain(
      'exceeded quota',
    );
  });

  it.each([
    ['refuses', () => quota(), 'exceeded quota'],
    ['fails at', () => apiError(500, 'InternalError', 'try again'), 'try again'],
  ])(
    'of rank 1, which an API server %s while rank 0 runs already, fails no group',
    async (_, fault, words) => {
      const world = setup({ replicas: 1 });
      world.cluster.fault = (write, _count, when) => {
        if (when === 'before' && write.kind === 'Pod' && write.key.endsWith('-0-1')) throw fault();
      };
      for (let turn = 0; turn < 5; turn += 1) {
        await expect(world.reconciler.reconcile(KEY, signal)).rejects.toThrow(words);
        worldMoves(world.cluster, DEMO);
        world.cluster.deliver();
        world.clock.now += 1_000;
      }
      expect(rankPodsOf(world.cluster)).toHaveLength(1);
      world.cluster.fault = () => undefined;
      await converge(world, world.reconciler);
      expect(world.cluster.writes.filter(({ kind, verb }) => kind === 'Pod' && verb === 'remove')).toEqual(
        [],
      );
      expect(conditionOf(world.cluster, 'Ready')).toMatchObject({ status: 'True' });
    },
  );

  it('of the same kind is told once, not at every try', async () => {
    const world = setup();
    world.cluster.fault = (write, _count, when) => {
      if (when === 'before' && write.kind === 'Pod' && write.verb === 'create') throw quota();
    };
    await converge(world, world.reconciler, false);
    expect(world.logs.filter(({ level }) => level === 'thrown').length).toBeGreaterThan(2);
    expect(
      world.cluster.writes.filter(({ subresource }) => subresource === 'status').length,
    ).toBeLessThanOrEqual(2);
  });

  it('of the revision that pods come from keeps them from being made', async () => {
    const world = setup();
    world.cluster.fault = (write, _count, when) => {
      if (when === 'before' && write.kind === 'ConfigMap' && write.verb === 'create') throw quota();
    };
    await expect(world.reconciler.reconcile(KEY, signal)).rejects.toThrow('exceeded quota');
    expect(rankPodsOf(world.cluster)).toEqual([]);
  });

  it('because the namespace is going away ends quietly', async () => {
    const world = setup();
    world.cluster.fault = (_write, count, when) => {
      if (when === 'before' && count >= 2)
        throw apiError(403, 'Forbidden', 'being terminated', {
          causes: [{ reason: 'NamespaceTerminating' }],
        });
    };
    expect(await world.reconciler.reconcile(KEY, signal)).toEqual({});
    expect(world.cluster.writes).toHaveLength(2);
    expect(world.logs.filter(({ level }) => level !== 'info')).toEqual([]);
  });

  it.each([
    ['500', () => apiError(500, 'InternalError', 'etcdserver: request timed out')],
    ['429', () => apiError(429, 'TooManyRequests', 'slow down')],
    ['a cut connection', () => new TransportError('Connection', 'reset')],
    ['lost leadership', () => new Error('does not hold the lease')],
  ])(
    'that says nothing of the object (%s) ends the pass and is not told in the status',
    async (_name, error) => {
      const world = setup();
      world.cluster.fault = (write, count, when) => {
        if (when === 'before' && count === 3 && write.subresource !== 'status') throw error();
      };
      await expect(world.reconciler.reconcile(KEY, signal)).rejects.toThrow(error().message);
      expect(world.cluster.writes.map(({ subresource }) => subresource)).toEqual([
        undefined,
        undefined,
        undefined,
        'status',
      ]);
      expect(JSON.stringify(world.cluster.get('InternVLDeployment', KEY)?.['status'])).not.toContain(
        error().message,
      );
    },
  );

  it('stops at once when the signal is aborted', async () => {
    const world = setup();
    const end = new AbortController();
    world.cluster.fault = (_write, count, when) => {
      if (when === 'after' && count === 2) end.abort();
    };
    await expect(world.reconciler.reconcile(KEY, end.signal)).rejects.toThrow();
    expect(world.cluster.writes).toHaveLength(3);
  });
});

describe('a pod on a node that the cache does not have', () => {
  const world = async (known: boolean) => {
    const world = setup({ replicas: 1 });
    await converge(world, world.reconciler);
    if (known) addNode(world.cluster, 'node-new');
    const [pod] = rankPodsOf(world.cluster);
    // As if the watch of nodes were behind: the pods are delivered, the node is not.
    const deliver = world.cluster.caches.nodes as Map<string, unknown>;
    for (const { metadata } of rankPodsOf(world.cluster))
      world.cluster.edit('Pod', `vision/${metadata.name}`, (object) => {
        object['spec'] = { ...(object['spec'] as object), nodeName: 'node-new' };
      });
    world.cluster.edit('ConfigMap', `vision/${routersConfigMapName('demo')}`, (object) => {
      object['data'] = {};
    });
    world.cluster.deliver();
    deliver.delete('node-new');
    // The routers have lost it too, and it has been there for a while.
    world.clock.now += 120_000;
    const reads = world.cluster.reads;
    await world.reconciler.reconcile(KEY, signal);
    return {
      gone: world.cluster.writes.some(({ verb, kind }) => verb === 'remove' && kind === 'Pod'),
      asked: world.cluster.reads - reads,
      pod,
    };
  };

  it('is left alone when the API server has the node', async () => {
    expect(await world(true)).toMatchObject({ gone: false, asked: 1 });
  });

  it('is replaced when the node is gone', async () => {
    expect(await world(false)).toMatchObject({ gone: true });
  });
});

/** What the world must come to, whatever happens on the way. */
function endOf(cluster: RecordedCluster): unknown {
  const pods = rankPodsOf(cluster)
    .map((pod) => ({
      name: pod.metadata.name,
      serving: isServing(pod),
      rank: pod.metadata.labels?.[LABELS.rank],
    }))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
  return {
    pods,
    ready: conditionOf(cluster, 'Ready')?.status,
    children: names(cluster).filter((name) => !name.endsWith('-failures')),
  };
}

/** Runs a scenario with a fault at each of its writes, each time in a new world. */
async function atEveryWrite(
  spec: Record<string, unknown>,
  change: (world: Setup) => void,
  fault: (write: Write) => Error,
  when: 'before' | 'after',
  wrong: (world: Setup) => unknown,
): Promise<number> {
  const undisturbed = setup(spec);
  await converge(undisturbed, undisturbed.reconciler);
  const start = undisturbed.cluster.writes.length;
  change(undisturbed);
  await converge(undisturbed, undisturbed.reconciler);
  const end = undisturbed.cluster.writes.length;
  const expected = endOf(undisturbed.cluster);
  for (let k = 0; k < end; k += 1) {
    const world = setup(spec);
    let struck = false;
    const violations: unknown[] = [];
    world.cluster.fault = (write, count, now) => {
      violations.push(...[wrong(world)].filter((violation) => violation !== undefined));
      if (struck || now !== when || count < k) return;
      struck = true;
      throw fault(write);
    };
    const run = async (): Promise<void> => {
      const before = struck;
      await converge(world, world.reconciler);
      // The process that was struck is gone; the next one knows nothing but the API.
      if (struck && !before) await converge(world, world.newReconciler());
    };
    if (k >= start) {
      await converge(world, world.reconciler);
      change(world);
      await run();
    } else {
      await run();
      change(world);
      await converge(world, world.newReconciler());
    }
    expect(violations, `fault ${when} write ${k} of ${end}`).toEqual([]);
    expect(endOf(world.cluster), `fault ${when} write ${k} of ${end}`).toEqual(expected);
  }
  return end;
}

describe.each(['before', 'after'] as const)(
  'an operator killed %s any of its writes',
  { timeout: 60_000 },
  (when) => {
    const killed = () => new TransportError('Aborted', 'killed');

    it('is completed by the next one: creation, never with a serving pod deleted', async () => {
      expect(
        await atEveryWrite(
          {},
          () => undefined,
          killed,
          when,
          ({ cluster }) => servingRemoved(cluster)[0],
        ),
      ).toBeGreaterThan(10);
    });

    it('is completed by the next one: a roll-out, with as many serving groups as are wanted all the time', async () => {
      let serving = 0;
      const tooFew = ({ cluster }: Setup): unknown => {
        const now = rankPodsOf(cluster).filter(
          (pod) => isServing(pod) && pod.metadata.deletionTimestamp === undefined,
        ).length;
        if (cluster.writes.length === 0) serving = 0;
        serving = Math.min(2, Math.max(serving, now));
        return now >= serving ? undefined : `${now} serve after ${JSON.stringify(cluster.writes.at(-1))}`;
      };
      const newImage = ({ cluster }: Setup): void =>
        cluster.edit('InternVLDeployment', KEY, (object) => {
          object['spec'] = { ...(object['spec'] as object), image: 'runtime:2' };
          object.metadata['generation'] = 2;
        });
      await atEveryWrite({}, newImage, killed, when, tooFew);
    });

    it('is completed by the next one: a rank that died takes its group with it and no other', async () => {
      const dies = ({ cluster }: Setup): void => {
        const [pod] = rankPodsOf(cluster).toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
        cluster.edit('Pod', `vision/${pod?.metadata.name}`, (object) => {
          const state = { terminated: { exitCode: 1, reason: 'Error', finishedAt: '2026-01-01T00:00:20Z' } };
          object['status'] = {
            ...(object['status'] as object),
            phase: 'Failed',
            containerStatuses: [
              { name: 'rank-0', ready: false, restartCount: 0, image: '', imageID: '', state },
            ],
          };
        });
      };
      const otherGoes = ({ cluster }: Setup): unknown => {
        const removed = cluster.writes.filter(({ verb, kind }) => verb === 'remove' && kind === 'Pod');
        return removed.find(({ key, serving }) => /-1-\d$/.test(key) && serving === true);
      };
      await atEveryWrite({}, dies, killed, when, otherGoes);
    });
  },
);

describe('faults', () => {
  it('of conflict at each first write of an object are got over without a warning', async () => {
    const world = setup();
    const seen = new Set<string>();
    world.cluster.fault = ({ kind, key, verb }, _count, when) => {
      if (when !== 'before' || seen.has(`${verb} ${kind} ${key}`)) return;
      seen.add(`${verb} ${kind} ${key}`);
      throw apiError(409, 'Conflict', 'the object has been modified');
    };
    await converge(world, world.reconciler);
    expect(conditionOf(world.cluster, 'Ready')).toMatchObject({ status: 'True' });
    expect(JSON.stringify(world.cluster.get('InternVLDeployment', KEY)?.['status'])).not.toContain(
      'modified',
    );
  });

  it('of conflict at a deletion are tried again at once: nothing is waited for that was not done', async () => {
    const world = setup({ replicas: 1 });
    await converge(world, world.reconciler);
    world.cluster.edit('InternVLDeployment', KEY, (object) => {
      Object.assign(object, { spec: { ...(object['spec'] as object), replicas: 0 } });
    });
    let refused = 0;
    world.cluster.fault = ({ verb, kind }, _count, when) => {
      if (verb === 'remove' && kind === 'Pod' && when === 'before' && (refused += 1) <= 2)
        throw apiError(409, 'Conflict', 'the object has been modified');
    };
    const begun = world.clock.now;
    await converge(world, world.reconciler);
    expect(refused).toBeGreaterThan(2);
    expect(rankPodsOf(world.cluster)).toEqual([]);
    expect(world.clock.now - begun).toBeLessThan(20_000);
  });

  it('of two operators with caches of different age make nothing twice and delete nothing', async () => {
    const world = setup();
    const first = world.newReconciler();
    const second = world.newReconciler(world.cluster.restartedCaches());
    await Promise.allSettled([first.reconcile(KEY, signal), second.reconcile(KEY, signal)]);
    await Promise.allSettled([second.reconcile(KEY, signal), first.reconcile(KEY, signal)]);
    await converge(world, first);
    expect(rankPodsOf(world.cluster)).toHaveLength(4);
    expect(world.cluster.writes.filter(({ verb }) => verb === 'remove')).toEqual([]);
    expect(conditionOf(world.cluster, 'Ready')).toMatchObject({ status: 'True' });
  });
});
