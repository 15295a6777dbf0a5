// A node that goes away with its pods. The control plane takes most of a minute to believe it.
import { describe, expect, it } from 'vitest';
import { NODES } from '../../operator/kube/resources.ts';
import { namespaceForEachTest } from '../support/each-test.ts';
import { eventually } from '../support/operator-process.ts';
import type { TestNamespace } from '../support/test-namespace.ts';

let world: TestNamespace;
namespaceForEachTest((made) => (world = made));

describe('a node that is lost', () => {
  it('has its group replaced elsewhere', async () => {
    const [, second = ''] = await world.nodes(2, 2);
    await world.nodes(1, 2);
    await world.operator({ flags: ['--placement-timeout-ms', '3000', '--node-lost-timeout-ms', '0'] });
    world.routers();
    await world.apply(world.onGpus());
    await world.settled();
    const lost = (await world.ranks()).find(({ spec }) => spec?.nodeName === second) !== undefined;
    const victim = lost ? second : ((await world.ranks())[0]?.spec?.nodeName ?? '');
    const before = (await world.ranks()).filter(({ spec }) => spec?.nodeName !== victim);
    await world.client.remove(NODES, victim);
    await eventually(async () => {
      const pods = await world.ranks();
      expect(pods.filter(({ spec }) => spec?.nodeName === victim)).toEqual([]);
      expect(pods).toHaveLength(4);
    }, 90_000);
    await world.settled();
    const after = await world.uids();
    expect(before.filter(({ metadata }) => !after.includes(metadata?.uid ?? ''))).toEqual([]);
  });
});
