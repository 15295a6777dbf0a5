// An API server that is slow, or gone for longer than a client waits: nothing is done twice, and nothing is undone.
import { describe, expect, it } from 'vitest';
import { faultyNamespaceForEachTest, said, type FaultyNamespace } from '../support/each-test.ts';
import type { FaultProxy } from '../support/fault-proxy.ts';
import type { TestNamespace } from '../support/test-namespace.ts';

let world: TestNamespace;
let proxy: FaultProxy;
let operator: FaultyNamespace['operator'];
faultyNamespaceForEachTest((made) => {
  ({ world, proxy } = made);
  operator = (flags) => made.operator(flags);
});

describe('an API server', () => {
  it('that takes 5 s for everything has each write made once', async () => {
    const process = await operator();
    world.routers();
    await world.apply();
    await world.settled();
    const [kept = ''] = (await world.groups()).keys();
    proxy.fault = ({ isWatch }) => (isWatch ? undefined : { kind: 'delay', ms: 5000 });
    await world.patch({ spec: { replicas: 1 } });
    await world.settled({ timeoutMs: 110_000 });
    expect([...(await world.groups()).keys()]).toEqual([kept]);
    expect(said(process, 'drained')).toHaveLength(1);
    expect(said(process, 'deleted')).toHaveLength(2);
  });

  it('that is gone for a minute finds nothing undone and the changes of that minute made', async () => {
    const process = await operator();
    world.routers();
    await world.apply();
    await world.settled();
    const before = await world.uids();
    proxy.fault = () => ({ kind: 'cut', when: 'before' });
    proxy.cutWatches();
    await world.patch({ spec: { replicas: 3 } });
    await new Promise((resolve) => setTimeout(resolve, 60_000));
    expect(await world.uids()).toEqual(before);
    proxy.fault = () => undefined;
    await world.settled({ timeoutMs: 60_000 });
    expect((await world.uids()).filter((uid) => before.includes(uid))).toEqual(before);
    expect(said(process, 'deleted')).toEqual([]);
    expect(process.logs.filter(({ level }) => level === 'error')).toEqual([]);
  }, 180_000);
});
