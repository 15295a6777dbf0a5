// Set-ups of files on the control plane: what each test gets for itself is made before it and ended after it.
import { afterEach, beforeEach } from 'vitest';
import { controlPlane } from './control-plane.ts';
import { FaultProxy } from './fault-proxy.ts';
import type { LogLine, OperatorProcess } from './operator-process.ts';
import { TestNamespace } from './test-namespace.ts';

/** Hands each test of the file a namespace. */
export function namespaceForEachTest(take: (world: TestNamespace) => void): void {
  let world: TestNamespace | undefined;
  beforeEach(async () => {
    world = await TestNamespace.make(await controlPlane());
    take(world);
  });
  afterEach(async () => {
    await world?.close();
  });
}

/** One whose operators reach the API server by a proxy that fails when told to. */
export class FaultyNamespace {
  readonly world: TestNamespace;
  readonly proxy: FaultProxy;

  constructor(world: TestNamespace, proxy: FaultProxy) {
    this.world = world;
    this.proxy = proxy;
  }

  /** An operator behind the proxy that needs no Lease, so that nothing but the fault is looked at. */
  operator(flags: readonly string[] = []): Promise<OperatorProcess> {
    return this.world.operator({
      kubeconfig: this.proxy.kubeconfig,
      flags: ['--leader-elect', 'false', ...flags],
    });
  }
}

export function faultyNamespaceForEachTest(take: (namespace: FaultyNamespace) => void): void {
  let proxy: FaultProxy;
  beforeEach(async () => {
    proxy = await FaultProxy.start((await controlPlane()).kubeconfig);
  });
  // The last to be named is the first to run: no fault any more, then the namespace and its operators, then the proxy.
  afterEach(async () => {
    await proxy.close();
  });
  namespaceForEachTest((world) => take(new FaultyNamespace(world, proxy)));
  afterEach(() => {
    proxy.fault = () => undefined;
  });
}

/** What an operator has logged in these words. */
export function said({ logs }: OperatorProcess, message: string): LogLine[] {
  return logs.filter((line) => line.message === message);
}
