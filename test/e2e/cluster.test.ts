// One deployment's life on a real cluster, from `helm install` to `helm uninstall`, under traffic that goes on through all of it.

import { afterAll, beforeAll, describe } from 'vitest';
import { shareClaim, takeByName } from './devices.ts';
import { killRank, loseNode, restartApiServer } from './faults.ts';
import { saveEvidence } from './evidence.ts';
import { inventory } from './inventory.ts';
import { deleteDeployment, drainNode, uninstall, upgrade } from './maintenance.ts';
import { badRevision, changeEngine, killLeader } from './rollouts.ts';
import { scaleByAutoscaler, scaleByHand } from './scaling.ts';
import { answers, deploy, install } from './serving.ts';
import { Steps } from './steps.ts';
import { KEEP, World } from './world.ts';

describe('a deployment on a real cluster', () => {
  let world: World;
  let empty: ReadonlySet<string>;
  let installed: ReadonlySet<string>;
  const steps = new Steps(
    (name) => world.mark(name),
    (name) => saveEvidence(world.kubernetes, name),
  );
  const step = (name: string, body: (mark: string) => Promise<void>) => steps.step(name, () => body(name));

  beforeAll(async () => {
    world = await World.start();
    empty = await inventory(world.kubernetes);
  }, 300_000);

  afterAll(async () => {
    console.log(steps.table());
    // A person may look around: `test/cluster/cluster.sh down` ends it.
    if (steps.broken && KEEP) console.log(`kept: STATE_DIR=${world.lab.stateDirectory}`);
    else await world?.stop();
  }, 120_000);

  step('helm install', async () => {
    await install(world);
    installed = await inventory(world.kubernetes);
  });
  step('kubectl apply, and wait until Ready', () => deploy(world));
  step('right answers from a pod and from outside', async () => {
    await answers(world);
    await world.startTraffic();
  });
  step('a group that shares a claim for its devices', () => shareClaim(world));
  step('a group whose ranks take a device each', () => takeByName(world));
  step('scale 2 -> 1 -> 3 -> 0 -> 1', (mark) => scaleByHand(world, mark));
  step('an autoscaler adds and takes away a replica', (mark) => scaleByAutoscaler(world, mark));
  step('kill -9 of a rank', (mark) => killRank(world, mark));
  step('a node lost and back', () => loseNode(world, 'node-b'));
  step('another engine setting under traffic', (mark) => changeEngine(world, mark));
  step('an image that cannot start, and back', (mark) => badRevision(world, mark));
  step('the leading operator killed in mid-rollout', (mark) => killLeader(world, mark));
  step('the API server restarted', (mark) => restartApiServer(world, mark));
  step('kubectl drain of a node', (mark) => drainNode(world, 'node-b', mark));
  step('helm upgrade with a newer CRD', (mark) => upgrade(world, mark));
  step('kubectl delete', () => deleteDeployment(world, installed));
  step('helm uninstall', () => uninstall(world, empty));
});
