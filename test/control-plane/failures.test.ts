// Groups that cannot be placed, that end or that are refused, on a real API server and scheduler: what is done, and what the status says.
import { describe, expect, it } from 'vitest';
import { namespaceForEachTest } from '../support/each-test.ts';
import { eventually } from '../support/operator-process.ts';
import type { TestNamespace } from '../support/test-namespace.ts';

let world: TestNamespace;
namespaceForEachTest((made) => (world = made));

const PLACEMENT = ['--placement-timeout-ms', '3000'];

describe('a group without room', () => {
  it('is told with the device that is short and the rank that lacks it, and is placed when there is room', async () => {
    await world.nodes(1, 0);
    await world.operator({ flags: PLACEMENT });
    world.routers();
    await world.apply(world.onGpus({ replicas: 1 }));
    const text = await world.says('Ready', /Insufficient nvidia\.com\/gpu/);
    expect(text).toMatch(
      /^False ReplicasNotReady: 0 of 1 replicas are ready: replica demo-\w{8}-0 rank 0: Unschedulable: 0\/\d+ nodes are available/,
    );
    expect((await world.status()).groups).toMatchObject([{ phase: 'Scheduling', ready: false }]);
    await world.nodes(1, 2);
    await world.settled();
  });

  it('of which a part was placed gives its devices back, so that another one can be placed whole', async () => {
    await world.nodes(1, 3);
    await world.operator({ flags: PLACEMENT });
    world.routers();
    await world.apply(world.onGpus({ replicas: 2 }));
    // One group has two of the three devices; the other one holds the third for a while only.
    await eventually(async () => {
      const { groups } = await world.status();
      expect(JSON.stringify(groups)).toContain('PartlyPlaced');
    }, 60_000);
    expect(await world.condition('Ready')).toMatch(/^False ReplicasNotReady: 1 of 2 replicas are ready/);
    await eventually(async () => {
      const placed = (await world.ranks()).filter(({ spec }) => spec?.nodeName !== undefined);
      expect(placed).toHaveLength(2);
    });
    await world.nodes(1, 2);
    await world.settled();
  });
});

describe('a rank that ends', () => {
  it('takes its group with it, and leaves evidence when that happens too often', async () => {
    await world.operator();
    world.routers();
    await world.apply({ rollout: { maxGroupRestarts: 1 } });
    await world.settled();
    const names = [...(await world.groups()).keys()];
    const [broken = '', healthy = ''] = names;
    const kept = ((await world.groups()).get(healthy) ?? []).map(({ metadata }) => metadata?.uid);
    for (let end = 0; end < 2; end++) {
      const [, rank] = await eventually(async () => {
        const pods = (await world.groups()).get(broken) ?? [];
        expect(pods.map(({ status }) => status?.phase)).toEqual(['Running', 'Running']);
        expect(pods.every(({ metadata }) => metadata?.deletionTimestamp === undefined)).toBe(true);
        return pods;
      });
      if (rank === undefined) throw new Error('there is no rank 1');
      await world.endRank(rank, 1, `allocation failed\nout of memory #${end}`);
      await eventually(async () => {
        const uids = ((await world.groups()).get(broken) ?? []).map(({ metadata }) => metadata?.uid);
        expect(uids).not.toContain(rank.metadata?.uid);
      });
    }
    await world.says(
      'Degraded',
      /^True RestartBudgetExhausted: replica demo-\w{8}-\d is left down: rank 1: Error, exit code 1: out of memory #1 \(2 failures in a row\)$/,
    );
    const status = await world.status();
    expect(status.lastFailure).toMatchObject({
      group: broken,
      rank: 1,
      exitCode: 1,
      lastLines: ['allocation failed', 'out of memory #1'],
    });
    expect(status.groups.find(({ name }) => name === broken)).toMatchObject({ phase: 'Down' });
    await eventually(async () => expect([...(await world.groups()).keys()]).toEqual([healthy]));
    expect(((await world.groups()).get(healthy) ?? []).map(({ metadata }) => metadata?.uid)).toEqual(kept);
    expect(await world.condition('Available')).toMatch(/^True/);
    await world.patch({ spec: { engine: { maxSequences: 5 } } });
    await world.settled();
  });

  it('because its flags or checkpoint are wrong is not started again at once', async () => {
    await world.operator();
    const routers = world.routers();
    routers.refuses = () => true;
    await world.apply({ replicas: 1 });
    const pods = await eventually(async () => {
      const pods = await world.ranks();
      expect(pods.map(({ status }) => status?.phase)).toEqual(['Running', 'Running']);
      return pods;
    });
    const [first] = pods;
    if (first === undefined) throw new Error('there is no rank');
    await world.endRank(first, 2, 'no config.json in /model');
    await world.says('Degraded', /^True CannotStart: .*exit code 2: no config\.json in \/model/);
    expect((await world.status()).lastFailure).toMatchObject({ rank: 0, exitCode: 2 });
    await eventually(async () => expect(await world.ranks()).toEqual([]));
    expect((await world.status()).groups).toMatchObject([{ phase: 'Backoff' }]);
  });
});

describe('pods that admission refuses', () => {
  it('are told of with the words of the policy, and made once it lets them', async () => {
    const policy = `deny-${world.name}`;
    const api = 'admissionregistration.k8s.io/v1';
    const rule = { apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['pods'] };
    const isRank = "object.metadata.?labels[?'app.kubernetes.io/component'].orValue('') == 'runtime'";
    const objects = [
      {
        apiVersion: api,
        kind: 'ValidatingAdmissionPolicy',
        metadata: { name: policy },
        spec: {
          matchConstraints: { resourceRules: [rule] },
          validations: [{ expression: `!(${isRank})`, message: 'ranks are not welcome here' }],
        },
      },
      {
        apiVersion: api,
        kind: 'ValidatingAdmissionPolicyBinding',
        metadata: { name: policy },
        spec: {
          policyName: policy,
          validationActions: ['Deny'],
          matchResources: {
            namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': world.name } },
          },
        },
      },
    ];
    await world.kubectl(['apply', '-f', '-'], objects.map((object) => JSON.stringify(object)).join('\n'));
    try {
      const probe = {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'probe', labels: { 'app.kubernetes.io/component': 'runtime' } },
        spec: { containers: [{ name: 'c', image: 'i' }] },
      };
      // A policy takes effect some moments after it was made.
      await eventually(async () => {
        const { stderr } = await world.plane.kubectl(
          ['-n', world.name, 'create', '--dry-run=server', '-f', '-'],
          JSON.stringify(probe),
        );
        expect(stderr).toContain('not welcome');
      });
      await world.operator();
      world.routers();
      await world.apply();
      await world.says('Ready', /^False ReplicasNotReady: .*ranks are not welcome here/);
      await world.says('Progressing', /^False WriteRefused: .*ranks are not welcome here/);
      expect(await world.ranks()).toEqual([]);
    } finally {
      await world.kubectl(['delete', 'validatingadmissionpolicy,validatingadmissionpolicybinding', policy]);
    }
    await world.settled();
  });
});

describe('objects that others hold or change', () => {
  it('stay until their finalizers are gone: a rank pod holds back its own group alone', async () => {
    await world.operator();
    world.routers();
    await world.apply();
    await world.settled();
    const [held = '', other = ''] = [...(await world.groups()).keys()];
    const kept = ((await world.groups()).get(other) ?? []).map(({ metadata }) => metadata?.uid);
    const name = `${held}-1`;
    await world.kubectl(['patch', 'pod', name, '-p', '{"metadata":{"finalizers":["example.com/hold"]}}']);
    await world.kubectl(['delete', 'pod', name, '--wait=false']);
    await eventually(async () => {
      const pods = (await world.groups()).get(held) ?? [];
      expect(pods.map(({ metadata }) => metadata?.name)).toEqual([name]);
    });
    await world.says('Ready', /^False ReplicasNotReady: 1 of 2 replicas are ready/);
    await world.kubectl([
      'patch',
      'pod',
      name,
      '--type=json',
      '-p',
      '[{"op":"remove","path":"/metadata/finalizers"}]',
    ]);
    await world.settled();
    const after = await world.groups();
    expect((after.get(other) ?? []).map(({ metadata }) => metadata?.uid)).toEqual(kept);
  });

  it('a deployment that is held while it is deleted gets nothing made any more, and goes with all it had', async () => {
    await world.operator();
    world.routers();
    await world.apply();
    await world.settled();
    const hold = (value: string) =>
      world.kubectl(['patch', 'ivl', 'demo', '--type=merge', '-p', `{"metadata":{"finalizers":${value}}}`]);
    await hold('["example.com/hold"]');
    await world.kubectl(['delete', 'ivl', 'demo', '--wait=false']);
    await world.kubectl(['delete', 'service', 'demo-router']);
    await world.kubectl(['delete', 'pods', '-l', 'app.kubernetes.io/component=runtime', '--wait=true']);
    // Another deployment is served meanwhile, so the operator has seen all of it.
    await world.apply({ replicas: 0 }, 'other');
    await world.settled({ name: 'other' });
    expect(await world.ranks()).toEqual([]);
    expect(await world.kubectl(['get', 'service', 'demo-router', '--ignore-not-found'])).toBe('');
    await hold('null');
    await eventually(async () => {
      const left = await world.kubectl([
        'get',
        'all,configmaps,pdb,role,networkpolicy',
        '-l',
        'internvl.dev/deployment=demo',
        '-o',
        'name',
      ]);
      expect(left.trim()).toBe('');
    }, 60_000);
  });

  it('are made again when deleted and put right when edited, whatever their kind', async () => {
    await world.operator();
    world.routers();
    await world.apply({ router: { replicas: 2 } });
    await world.settled();
    const ranks = await world.uids();
    const kinds =
      'service,configmap,serviceaccount,deployment,role,rolebinding,poddisruptionbudget,networkpolicy';
    const list = async () => {
      const text = await world.kubectl(['get', kinds, '-l', 'internvl.dev/deployment=demo', '-o', 'json']);
      const { items } = JSON.parse(text) as {
        items: { kind: string; metadata: { name: string; uid: string; labels: object } }[];
      };
      return items.toSorted((a, b) =>
        `${a.kind}/${a.metadata.name}` < `${b.kind}/${b.metadata.name}` ? -1 : 1,
      );
    };
    const name = ({ kind, metadata }: { kind: string; metadata: { name: string } }) =>
      `${kind}/${metadata.name}`;
    // The ledger of failures is there only while there is something to remember.
    const before = (await list()).filter((child) => !name(child).endsWith('-failures'));
    expect(new Set(before.map(({ kind }) => kind)).size).toBe(8);
    for (const child of before) await world.kubectl(['delete', name(child), '--wait=false']);
    await eventually(async () => {
      const after = await list();
      expect(after.map(name)).toEqual(expect.arrayContaining(before.map(name)));
      const old = new Set(before.map(({ metadata }) => metadata.uid));
      expect(after.filter(({ metadata }) => old.has(metadata.uid)).map(name)).toEqual([]);
    }, 60_000);
    const made = await list();
    const identity = (child: (typeof made)[number]) => `${name(child)} ${child.metadata.uid}`;
    const strip = ['app.kubernetes.io/managed-by=somebody', 'internvl.dev/deployment-', '--overwrite'];
    for (const child of made) await world.kubectl(['label', name(child), ...strip]);
    await eventually(async () => {
      const after = (await list()).filter(({ metadata }) =>
        JSON.stringify(metadata.labels).includes('"internvl-operator"'),
      );
      expect(after.map(identity)).toEqual(made.map(identity));
    }, 60_000);
    await world.settled();
    expect(await world.uids()).toEqual(ranks);
  });
});

describe('a rank pod whose labels somebody takes away', () => {
  it('is made a part of its group again, so that the group can be', async () => {
    await world.operator();
    world.routers();
    await world.apply({ replicas: 1 });
    await world.settled();
    const name = (await world.ranks())[1]?.metadata?.name ?? '';
    const labels = {
      'app.kubernetes.io/managed-by': null,
      'internvl.dev/group': null,
      'internvl.dev/deployment': null,
    };
    await world.kubectl([
      'patch',
      'pod',
      name,
      '--type=merge',
      '-p',
      JSON.stringify({ metadata: { labels } }),
    ]);
    await eventually(async () => {
      const pod = await world.kubectl(['get', 'pod', name, '-o', 'jsonpath={.metadata.labels}']);
      expect(pod).toContain('"internvl.dev/group":"demo-');
    }, 60_000);
    await world.settled();
    expect(await world.ranks()).toHaveLength(2);
  });
});

describe('names that are taken', () => {
  it('are told whatever the kind, and what has them is not touched', async () => {
    await world.operator();
    world.routers();
    const rules = [{ apiGroups: [''], resources: ['pods'], verbs: ['get'] }];
    const roleRef = { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'other' };
    const labels = { app: 'other' };
    const template = { metadata: { labels }, spec: { containers: [{ name: 'c', image: 'i' }] } };
    const foreign: readonly (readonly [
      deployment: string,
      apiVersion: string,
      kind: string,
      name: string,
      rest: object,
    ])[] = [
      ['a', 'v1', 'Service', 'a-router', { spec: { ports: [{ port: 80 }] } }],
      ['b', 'v1', 'Service', 'b-ranks', { spec: { ports: [{ port: 80 }] } }],
      ['c', 'v1', 'ServiceAccount', 'c-router', {}],
      ['d', 'v1', 'ConfigMap', 'd-routers', { data: { mine: 'yes' } }],
      [
        'e',
        'apps/v1',
        'Deployment',
        'e-router',
        { spec: { replicas: 0, selector: { matchLabels: labels }, template } },
      ],
      ['f', 'rbac.authorization.k8s.io/v1', 'Role', 'f-router', { rules }],
      ['g', 'rbac.authorization.k8s.io/v1', 'RoleBinding', 'g-router', { roleRef }],
      [
        'h',
        'policy/v1',
        'PodDisruptionBudget',
        'h-ranks',
        { spec: { maxUnavailable: 1, selector: { matchLabels: labels } } },
      ],
      [
        'i',
        'networking.k8s.io/v1',
        'NetworkPolicy',
        'i-ranks',
        { spec: { podSelector: { matchLabels: labels } } },
      ],
    ];
    const versions = async () =>
      Promise.all(
        foreign.map(
          async ([, apiVersion, kind, name]) =>
            await world.kubectl([
              'get',
              `${kind}.${apiVersion.includes('/') ? `${apiVersion.split('/')[1]}.${apiVersion.split('/')[0]}` : 'v1.'}`,
              name,
              '-o',
              'jsonpath={.metadata.uid} {.metadata.ownerReferences} {.metadata.labels}',
            ]),
        ),
      );
    for (const [, apiVersion, kind, name, rest] of foreign)
      await world.kubectl(
        ['create', '-f', '-'],
        JSON.stringify({ apiVersion, kind, metadata: { name }, ...rest }),
      );
    const before = await versions();
    for (const [name] of foreign) await world.apply({ replicas: 0 }, name);
    for (const [deployment, , kind, name] of foreign)
      await world.says(
        'Degraded',
        new RegExp(`^True NameCollision: ${kind} ${world.name}/${name} exists and has no controller`),
        {
          name: deployment,
        },
      );
    expect(await versions()).toEqual(before);
  });

  it('are told when a pod has one', async () => {
    await world.operator();
    world.routers();
    await world.apply({ replicas: 0 });
    await world.settled();
    const { currentRevision } = await world.status();
    const name = `demo-${currentRevision}-0-0`;
    const pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name },
      spec: { containers: [{ name: 'c', image: 'i' }] },
    };
    await world.kubectl(['create', '-f', '-'], JSON.stringify(pod));
    const uid = await world.kubectl(['get', 'pod', name, '-o', 'jsonpath={.metadata.uid}']);
    await world.patch({ spec: { replicas: 1 } });
    await world.says('Degraded', new RegExp(`^True NameCollision: Pod ${world.name}/${name} exists`));
    expect(await world.kubectl(['get', 'pod', name, '-o', 'jsonpath={.metadata.uid}'])).toBe(uid);
  });
});

describe('at rest', () => {
  it('nothing is written, however often all is looked at', async () => {
    const process = await world.operator({ flags: ['--resync-ms', '1000'] });
    world.routers('demo');
    world.routers('other');
    await world.apply({}, 'demo');
    await world.apply({ replicas: 1, router: { replicas: 2 } }, 'other');
    await world.settled({ name: 'demo' });
    await world.settled({ name: 'other' });
    const reconciles = async () =>
      [...(await process.metrics()).matchAll(/^controller_runtime_reconcile_total\{[^}]*\} (\d+)/gm)]
        .map(([, count]) => Number(count))
        .reduce((a, b) => a + b, 0);
    const start = await reconciles();
    const writes = await world.audited();
    expect(writes.length).toBeGreaterThan(30);
    await eventually(async () => expect((await reconciles()) - start).toBeGreaterThanOrEqual(40), 90_000);
    expect((await world.audited()).slice(writes.length)).toEqual([]);
  });
});
