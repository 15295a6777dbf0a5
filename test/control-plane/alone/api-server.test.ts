// The API server of the whole run goes away under an operator that holds its Lease.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { SERVICES } from '../../../operator/kube/resources.ts';
import { routerName } from '../../../operator/names.ts';
import { controlPlane, type ControlPlane } from '../../support/control-plane.ts';
import { eventually } from '../../support/operator-process.ts';
import { TestNamespace } from '../../support/test-namespace.ts';

let plane: ControlPlane;
let world: TestNamespace;

beforeEach(async () => {
  plane = await controlPlane();
  world = await TestNamespace.make(plane);
});
afterEach(async () => {
  await world.close();
});

it('loses nothing when it comes back before the lease ends', async () => {
  const lease = ['--lease-duration-ms', '60000', '--renew-deadline-ms', '50000'];
  const operator = await world.operator({ flags: lease });
  world.routers();
  await world.apply();
  await world.settled();
  const before = await world.uids();
  await plane.stopApiServer();
  await plane.startApiServer();
  const service = `${world.name}/${routerName('demo')}`;
  await world.client.remove(SERVICES, service);
  await eventually(async () => world.client.get(SERVICES, service), 60_000);
  expect(await world.uids()).toEqual(before);
  expect(operator.logs.filter(({ message }) => message === 'deleted')).toEqual([]);
});
