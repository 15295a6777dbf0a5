// The API server of the whole run goes away under an operator that holds its Lease.
import { expect, it } from 'vitest';
import { SERVICES } from '../../../operator/kube/resources.ts';
import { routerName } from '../../../operator/names.ts';
import { namespaceForEachTest } from '../../support/each-test.ts';
import { eventually } from '../../support/operator-process.ts';
import type { TestNamespace } from '../../support/test-namespace.ts';

let world: TestNamespace;
namespaceForEachTest((made) => (world = made));

it('loses nothing when it comes back before the lease ends', async () => {
  const lease = ['--lease-duration-ms', '60000', '--renew-deadline-ms', '50000'];
  const operator = await world.operator({ flags: lease });
  world.routers();
  await world.apply();
  await world.settled();
  const before = await world.uids();
  await world.plane.stopApiServer();
  await world.plane.startApiServer();
  const service = `${world.name}/${routerName('demo')}`;
  await world.client.remove(SERVICES, service);
  await eventually(async () => world.client.get(SERVICES, service), 60_000);
  expect(await world.uids()).toEqual(before);
  expect(operator.logs.filter(({ message }) => message === 'deleted')).toEqual([]);
});
