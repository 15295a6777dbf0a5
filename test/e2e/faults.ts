// What breaks under a running deployment: a rank's process, a node, the API server.

import { expect } from 'vitest';
import { summary } from '../support/traffic.ts';
import { condition, groupOf, identities, nodesOfGroups, type Pod } from './demo.ts';
import type { ApiObject } from './kubernetes.ts';
import { operatorPods } from './serving.ts';
import type { World } from './world.ts';

interface Status {
  readonly lastFailure?: { readonly group: string; readonly rank: number; readonly exitCode?: number };
  readonly groups?: readonly { readonly name: string; readonly restarts: number; readonly ready: boolean }[];
}

/** The condition Degraded with this reason, whenever it shows from now on; it may show for a moment only. */
function toldDegraded({ demo }: World, reason: string): Promise<ReturnType<typeof condition>> {
  const told = demo.until(`Degraded to tell of ${reason}`, (deployment) => {
    const degraded = condition(deployment, 'Degraded');
    return degraded?.reason === reason ? degraded : undefined;
  });
  // It is awaited later, or never when the step fails before.
  told.catch(() => undefined);
  return told;
}

/** `kill -9` of rank 1: its group is made again as one, the status has the evidence, and the other group serves on. */
export async function killRank(world: World, mark: string): Promise<void> {
  const { demo, lab, traffic } = world;
  const before = await demo.pods();
  const victim = before.find((pod) => pod.metadata.labels?.['internvl.dev/rank'] === '1');
  if (victim === undefined) throw new Error('there is no rank 1');
  const group = groupOf(victim);
  const others = before.filter((pod) => groupOf(pod) !== group);
  const lost = new Set(before.filter((pod) => groupOf(pod) === group).map(({ metadata }) => metadata.uid));

  const told = toldDegraded(world, 'ReplicaFailed');
  expect(await lab.killPodProcesses(victim.metadata.name)).toBeGreaterThan(0);
  const killedAt = Date.now();
  // Answers come from the other replica, now and not only after the restart.
  await traffic.rightAnswers(4);
  await demo.untilPods(
    `${group} to be made again`,
    (pods) =>
      pods.filter((pod) => groupOf(pod) === group && !lost.has(pod.metadata.uid)).length === 2 &&
      !pods.some(({ metadata }) => lost.has(metadata.uid)),
  );
  // Which rank ended first may be known only later than that one has: the evidence below names it.
  expect((await told)?.message).toContain(`replica ${group} failed: rank `);
  const deployment = await demo.ready(2);
  expect(condition(deployment, 'Degraded')).toMatchObject({ status: 'False', reason: 'AsExpected' });
  const status = deployment.status as Status;
  expect(status.lastFailure).toMatchObject({ group, rank: 1, exitCode: 137 });
  expect(status.groups?.find(({ name }) => name === group)).toMatchObject({ restarts: 1, ready: true });
  // The group that had nothing to do with it is untouched.
  expect(identities(await demo.pods())).toEqual(expect.arrayContaining(identities(others)));

  await traffic.rightAnswers(4);
  await traffic.settled();
  const report = traffic.report(mark);
  // Only an answer that had begun on the dead group may be lost.
  for (const failure of report.failed) {
    expect(failure.startedAt, summary(report)).toBeLessThanOrEqual(killedAt);
    expect(failure.outcome, summary(report)).toMatchObject({ code: 'UNAVAILABLE', replica: group });
  }
}

/** A node loses power: its group comes up elsewhere, the rest serves on; when the node is back nothing of the old group is. */
export async function loseNode(world: World, node: string): Promise<void> {
  const { demo, lab, kubernetes, traffic } = world;
  const before = await demo.pods();
  const hit = [...nodesOfGroups(before)].filter(([, nodes]) => nodes.has(node)).map(([group]) => group);
  expect(hit, `no group stands on ${node}`).not.toEqual([]);
  const dead = new Set(
    before.filter(({ spec }) => spec?.nodeName === node).map(({ metadata }) => metadata.uid),
  );

  const told = toldDegraded(world, 'NodeLost');
  await lab.killNode(node);
  await kubernetes.kubectl('wait', `node/${node}`, '--for=condition=Ready=Unknown', '--timeout=60s');
  expect((await told)?.message).toContain(`node ${node} is not ready or gone`);
  await demo.untilPods(
    'all groups on the node that is left',
    (pods) => {
      const alive = pods.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
      return (
        alive.length === 4 &&
        alive.every(({ spec }) => spec?.nodeName !== undefined && spec.nodeName !== node)
      );
    },
    90_000,
  );
  await demo.ready(2);
  world.mark(`${node} is down and replaced`);
  await world.expectNoFailure(`${node} is down and replaced`);

  await lab.startNode(node);
  await kubernetes.kubectl('wait', `node/${node}`, '--for=condition=Ready', '--timeout=60s');
  await demo.untilPods(
    'the pods of the lost group to go',
    (pods) => !pods.some(({ metadata }) => dead.has(metadata.uid)),
    90_000,
  );
  await demo.ready(2);
  // Routers and operators that stood there are back as well, wherever.
  await kubernetes.kubectl('rollout', 'status', 'deployment/demo-router', '--timeout=90s');
  await kubernetes.kubectl('wait', 'deployment', '--all', '-A', '--for=condition=Available', '--timeout=90s');
  await traffic.rightAnswers(4);
}

/** The API server is killed and comes back: serving does not notice, the operator does not restart, and acts again at once. */
export async function restartApiServer(world: World, mark: string): Promise<void> {
  const { demo, lab, kubernetes, traffic } = world;
  const ranks = identities(await demo.pods());
  const routers = identities(await demo.routerPods());
  const before = await operatorPods(world);
  const operators = identities(before);
  const uids = before.map(({ metadata }) => metadata.uid).toSorted();

  await lab.restartApiServer(async () => await traffic.rightAnswers(8));
  await kubernetes.until<ApiObject, true>('the API server', '/api/v1/namespaces', () => true);
  await kubernetes.until<Pod & ApiObject, true>('the nodes to be Ready', '/api/v1/nodes', (nodes) =>
    nodes.every(({ status }) =>
      status?.conditions?.some((one) => one.type === 'Ready' && one.status === 'True'),
    ),
  );
  await demo.ready(2);
  expect(identities(await demo.pods())).toEqual(ranks);
  expect(identities(await demo.routerPods())).toEqual(routers);

  // It acts: one replica more and one less.
  await demo.scale(3);
  await demo.ready(3);
  await demo.scale(2);
  await demo.ready(2);
  await demo.untilPods('four rank pods', (pods) => pods.length === 4);
  // The leader goes when it cannot renew its Lease, which is what exit code 3 says; the other one only waits.
  const after = await operatorPods(world);
  const restarted = identities(after).filter((identity) => !operators.includes(identity));
  expect(restarted.length, restarted.join(', ')).toBeLessThanOrEqual(1);
  for (const { metadata, status } of after)
    if (restarted.some((identity) => identity.startsWith(`${metadata.name} ${metadata.uid} `)))
      expect(status?.containerStatuses?.[0]?.lastState?.terminated?.exitCode, metadata.name).toBe(3);
  expect(after.map(({ metadata }) => metadata.uid).toSorted()).toEqual(uids);
  await world.expectNoFailure(mark);
}
