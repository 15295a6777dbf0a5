// What a cluster's keeper does: empty a node, upgrade the operator, take everything away.

import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { DEPLOYMENT, identities, nodesOfGroups, type Pod } from './demo.ts';
import { difference, inventory } from './inventory.ts';
import type { ApiObject } from './kubernetes.ts';
import { ROOT } from './lab.ts';
import { OPERATOR_PODS, operatorPods, RELEASE, SYSTEM } from './serving.ts';
import { eventually } from '../support/served.ts';
import type { World } from './world.ts';

/** `kubectl drain` ends because the operator moves the node's group first; no request notices. */
export async function drainNode(world: World, node: string, mark: string): Promise<void> {
  const { demo, lab, kubernetes } = world;
  await demo.ready(2);
  const hit = [...nodesOfGroups(await demo.pods())].filter(([, nodes]) => nodes.has(node));
  expect(hit, `no group stands on ${node}`).not.toEqual([]);
  let fewestReady = 2;
  let over = false;
  const watching = demo.until(
    'the drain to end',
    ({ status }) => {
      fewestReady = Math.min(fewestReady, status?.readyReplicas ?? 0);
      return over;
    },
    200_000,
  );
  // It is awaited later, or never when the step fails before.
  watching.catch(() => undefined);
  await lab.run(
    'kubectl',
    ['drain', node, '--ignore-daemonsets', '--delete-emptydir-data', '--timeout=150s'],
    { timeoutMs: 160_000 },
  );
  const emptied = await demo.untilPods('all groups elsewhere', (pods) =>
    pods.length === 4 && pods.every(({ spec }) => spec?.nodeName !== node) ? pods : undefined,
  );
  expect(nodesOfGroups(emptied).size).toBe(2);
  await demo.ready(2);
  over = true;
  await kubernetes.kubectl('annotate', DEPLOYMENT, 'e2e.internvl.dev/drained=true', '--overwrite');
  await watching;
  expect(fewestReady).toBe(2);
  const ranks = identities(await demo.pods());
  await kubernetes.kubectl('uncordon', node);
  await kubernetes.kubectl('rollout', 'status', 'deployment/demo-router', '--timeout=60s');
  await world.expectNoFailure(mark);
  // A node that is open again is no reason to move.
  expect(identities(await demo.pods())).toEqual(ranks);
}

/** A newer chart with a newer CRD: operators are replaced, nothing that serves is. */
export async function upgrade(world: World, mark: string): Promise<void> {
  const { demo, lab, kubernetes, directory } = world;
  await demo.ready(2);
  const ranks = identities(await demo.pods());
  const routers = identities(await demo.routerPods());
  const operators = (await operatorPods(world)).map(({ metadata }) => metadata.uid);

  const chart = join(directory, 'chart');
  await cp(join(ROOT, 'helm', RELEASE), chart, { recursive: true });
  const newColumn = await addColumn(chart);
  await lab.run(
    'helm',
    [
      'upgrade',
      RELEASE,
      chart,
      '--namespace',
      SYSTEM,
      '--reuse-values',
      '--wait',
      '--timeout',
      '120s',
      '--set',
      'podAnnotations.upgraded=yes',
    ],
    { timeoutMs: 130_000 },
  );

  // Helm waits for the new ones only.
  await kubernetes.until<Pod, boolean>('the old operators to go', OPERATOR_PODS, (pods) =>
    pods.every(({ metadata }) => !operators.includes(metadata.uid)),
  );
  expect(Object.keys(await demo.columns())).toContain(newColumn);
  // The new operator has looked at the deployment once it has told of another generation.
  await demo.patch({ rollout: { maxGroupRestarts: 9 } });
  await demo.ready(2);
  expect(identities(await demo.pods())).toEqual(ranks);
  expect(identities(await demo.routerPods())).toEqual(routers);
  await world.expectNoFailure(mark);
}

/** Gives the chart's CRD one more column, and returns its name. */
async function addColumn(chart: string): Promise<string> {
  for (const file of [
    'crds/internvldeployments.yaml',
    'files/internvldeployments.yaml',
    'templates/crd.yaml',
  ]) {
    const path = join(chart, file);
    const text = await readFile(path, 'utf8').catch(() => undefined);
    if (text === undefined || !/^ +additionalPrinterColumns:$/m.test(text)) continue;
    await writeFile(
      path,
      text.replace(
        /^( +)additionalPrinterColumns:$/m,
        '$&\n$1  - { name: Wanted, type: integer, jsonPath: .spec.replicas }',
      ),
    );
    return 'WANTED';
  }
  throw new Error(`found no CRD in ${chart}`);
}

/** `kubectl delete`: nothing that was made for the deployment is left. */
export async function deleteDeployment(world: World, before: ReadonlySet<string>): Promise<void> {
  await world.stopTraffic();
  await world.kubernetes.kubectl('delete', DEPLOYMENT, '--wait', '--timeout=60s');
  await world.demo.untilPods('no rank pods', (pods) => pods.length === 0);
  await world.kubernetes.kubectl('delete', 'pvc/demo-checkpoints', 'pv/demo-checkpoints', '--wait=true');
  await nothingLeft(world, before, ['kube-system', SYSTEM]);
}

/** Waits until nothing is there that was not before: garbage is collected in its own time. */
async function nothingLeft(
  { kubernetes }: World,
  before: ReadonlySet<string>,
  except: readonly string[],
): Promise<void> {
  let left: readonly string[] = [];
  await eventually('nothing to be left', async () => {
    left = difference(await inventory(kubernetes), before, except);
    return left.length === 0 ? true : undefined;
  }).catch((error: unknown) => {
    throw new Error(`left: ${left.join(', ')}`, { cause: error });
  });
}

/** `helm uninstall`: the cluster is what it was before. */
export async function uninstall(world: World, before: ReadonlySet<string>): Promise<void> {
  const { lab, kubernetes } = world;
  await lab.run('helm', ['uninstall', RELEASE, '--namespace', SYSTEM, '--wait', '--timeout', '60s'], {
    timeoutMs: 70_000,
  });
  await kubernetes.kubectl('delete', 'namespace', SYSTEM, '--wait', '--timeout=60s');
  // The chart keeps the CRD, and with it what users made; whoever wants it gone says so.
  await kubernetes.kubectl('delete', 'crd/internvldeployments.internvl.dev', '--wait');
  await kubernetes.until<ApiObject, true>(
    'no pods of the operator',
    `/api/v1/namespaces/${SYSTEM}/pods`,
    (pods) => (pods.length === 0 ? true : undefined),
  );
  await nothingLeft(world, before, ['kube-system']);
}
