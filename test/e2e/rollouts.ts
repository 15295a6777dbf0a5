// Changes that reach the rank pods: a good one, a bad one and back, one whose leader dies on the way.

import { expect } from 'vitest';
import { condition, DEPLOYMENT, groupOf, identities, type Deployment, type Pod } from './demo.ts';
import { eventually } from '../support/served.ts';
import { leader, OPERATOR_PODS, operatorPods } from './serving.ts';
import type { World } from './world.ts';

const MISSING_IMAGE = 'localhost/internvl-runtime:missing';

function revisionOf(pod: Pod): string {
  return pod.metadata.labels?.['internvl.dev/revision'] ?? '';
}

function currentRevision(deployment: Deployment): string {
  return deployment.status?.currentRevision ?? '';
}

/** Every state that the status goes through until `replicas` of one revision are ready; `watched` sees them all. */
async function rolled(
  world: World,
  from: string,
  watched: (deployment: Deployment) => void,
): Promise<Deployment> {
  return await world.demo.until(
    'the rollout to end',
    (deployment) => {
      watched(deployment);
      const { status, metadata } = deployment;
      const { updatedReplicas, readyReplicas, replicas } = status as Record<string, unknown>;
      const done =
        status?.observedGeneration === metadata.generation &&
        currentRevision(deployment) !== from &&
        [updatedReplicas, readyReplicas, replicas].every((count) => count === deployment.spec.replicas);
      return done ? deployment : undefined;
    },
    150_000,
  );
}

/** Another engine setting: group by group, never fewer ready than wanted, and no request notices. */
export async function changeEngine(world: World, mark: string): Promise<void> {
  const { demo } = world;
  const before = await demo.ready(2);
  const old = new Set((await demo.pods()).map(({ metadata }) => metadata.uid));
  let fewestReady = 2;
  const told = new Set<string>();
  await demo.patch({ engine: { maxSequences: 8 } });
  const after = await rolled(world, currentRevision(before), (deployment) => {
    fewestReady = Math.min(fewestReady, deployment.status?.readyReplicas ?? 0);
    const progressing = condition(deployment, 'Progressing');
    told.add(`${progressing?.status} ${progressing?.reason}`);
  });
  expect(fewestReady).toBe(2);
  expect(
    [...told].some((text) => text.startsWith('True')),
    [...told].join(', '),
  ).toBe(true);
  await demo.untilPods(
    'the old pods to go',
    (pods) => pods.length === 4 && !pods.some(({ metadata }) => old.has(metadata.uid)),
  );
  expect(new Set((await demo.pods()).map(revisionOf))).toEqual(new Set([currentRevision(after)]));
  await world.expectNoFailure(mark);
}

/** An image that cannot be had: the old groups serve on, the condition says why; going back touches none of them. */
export async function badRevision(world: World, mark: string): Promise<void> {
  const { demo } = world;
  await demo.ready(2);
  const old = identities(await demo.pods());
  await demo.patch({ image: MISSING_IMAGE });
  const failed = await demo.until('the rollout to be told as failed', (deployment) =>
    deployment.status?.observedGeneration === deployment.metadata.generation &&
    condition(deployment, 'Progressing')?.status === 'False' &&
    condition(deployment, 'Progressing')?.message.includes('mage')
      ? deployment
      : undefined,
  );
  const progressing = condition(failed, 'Progressing');
  expect(progressing?.reason).toMatch(/Image|Failed/);
  expect(progressing?.message).toContain(MISSING_IMAGE);
  expect(failed.status?.readyReplicas).toBe(2);
  expect(condition(failed, 'Available')?.status).toBe('True');
  expect(await demo.columns()).toMatchObject({ READY: '2/2', PHASE: 'RolloutFailed' });
  // Written after the status.
  await eventually('an event that names the image', async () => {
    const events = await world.kubernetes.kubectl('events', '--for', DEPLOYMENT, '--types=Warning');
    return events.includes(MISSING_IMAGE) ? true : undefined;
  });
  expect(identities(await demo.pods())).toEqual(expect.arrayContaining(old));
  await world.traffic.rightAnswers(4);

  await demo.patch({ image: null });
  const back = await demo.ready(2);
  expect(condition(back, 'Degraded')?.status).toBe('False');
  expect(await demo.columns()).toMatchObject({ READY: '2/2', PHASE: 'Serving' });
  await demo.untilPods('only the old pods', (pods) => pods.length === 4);
  expect(identities(await demo.pods())).toEqual(old);
  await world.expectNoFailure(mark);
}

/** The leading operator dies while the first new group starts: another process takes over and ends the rollout. */
export async function killLeader(world: World, mark: string): Promise<void> {
  const { demo, lab, kubernetes } = world;
  const before = await demo.ready(2);
  const from = currentRevision(before);
  const killed = await leader(world);
  const operators = await operatorPods(world);
  await demo.patch({ engine: { maxSequences: 12 } });
  await demo.untilPods('a pod of the new revision', (pods) => pods.some((pod) => revisionOf(pod) !== from));
  expect(await lab.killPodProcesses(killed.pod)).toBeGreaterThan(0);
  const after = await rolled(world, from, () => undefined);
  // A dead leader has its Lease until that runs out. By then the kubelet has started its container again: that process waits like the other pod's, and the one
  // that has seen the last renewal first is next. It does not go on as the dead one, and the lead changes once.
  const next = await leader(world);
  expect(operators.map(({ metadata }) => metadata.name)).toContain(next.pod);
  expect(next.process).not.toBe(killed.process);
  expect(next.transitions).toBe(killed.transitions + 1);
  await demo.untilPods(
    'pods of the new revision only',
    (pods) => pods.length === 4 && pods.every((pod) => revisionOf(pod) === currentRevision(after)),
  );
  const groups = new Set((await demo.pods()).map(groupOf));
  expect(groups.size).toBe(2);
  const restarts = ({ status }: Pod) => status?.containerStatuses?.[0]?.restartCount ?? 0;
  await kubernetes.until<Pod, boolean>(
    `a second process in ${killed.pod}, and the same in the other one`,
    OPERATOR_PODS,
    (pods) =>
      operators.every((old) => {
        const pod = pods.find(({ metadata }) => metadata.uid === old.metadata.uid);
        return pod && restarts(pod) === restarts(old) + (old.metadata.name === killed.pod ? 1 : 0);
      }),
    { describe: (pods) => identities(pods).join('\n') },
  );
  await world.expectNoFailure(mark);
}
