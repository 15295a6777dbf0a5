// Groups whose ranks take devices: all of them by one claim, or one each by resource name.

import { expect } from 'vitest';
import { condition, NAMESPACE, nodesOfGroups, type Deployment, type Pod } from './demo.ts';
import type { ApiObject } from './kubernetes.ts';
import type { World } from './world.ts';

const NAME = 'with-devices';
const CLAIMS = `/apis/resource.k8s.io/v1/namespaces/${NAMESPACE}/resourceclaims`;
const PODS = `/api/v1/namespaces/${NAMESPACE}/pods?labelSelector=internvl.dev/deployment%3D${NAME}`;
const DEPLOYMENTS = `/apis/internvl.dev/v1alpha1/namespaces/${NAMESPACE}/internvldeployments?fieldSelector=metadata.name%3D${NAME}`;

interface Claim extends ApiObject {
  readonly status?: {
    readonly allocation?: { readonly devices?: { readonly results?: readonly { device: string }[] } };
    readonly reservedFor?: readonly { readonly resource: string; readonly uid: string }[];
  };
}

/** Ranks in pods of their own that are granted all devices of the group (test/cluster/dra-driver). */
export async function shareClaim(world: World): Promise<void> {
  const device = { deviceClassName: 'gpu.internvl.test' };
  await serveWith(world, { device }, async (deployment, ranks) => {
    expect(condition(deployment, 'InterconnectVerified')).toMatchObject({ reason: 'NotMeasured' });
    const claims = await world.kubernetes.list<Claim>(CLAIMS);
    expect(claims).toHaveLength(1);
    const { allocation, reservedFor } = claims[0]?.status ?? {};
    expect(new Set(allocation?.devices?.results?.map((result) => result.device)).size).toBe(2);
    expect(reservedFor?.map(({ resource, uid }) => `${resource} ${uid}`).toSorted()).toEqual(
      ranks.map(({ metadata }) => `pods ${metadata.uid}`).toSorted(),
    );
  });
}

/** A device each by the device plugin (test/cluster/device-plugin); the status says that no rank sees its peer's. */
export async function takeByName(world: World): Promise<void> {
  const device = { resourceName: 'nvidia.com/gpu' };
  const spec = { device, tensorParallel: { size: 2, interconnect: 'Preferred' } };
  await serveWith(world, spec, async (deployment, ranks) => {
    expect(condition(deployment, 'InterconnectVerified')).toMatchObject({ status: 'False' });
    for (const { spec: pod } of ranks)
      expect(pod?.containers[0]?.resources?.limits).toMatchObject({ 'nvidia.com/gpu': '1' });
  });
}

/** One replica of the demo with this spec, from `kubectl apply` to Ready and until nothing of it is left. */
async function serveWith(
  { kubernetes, demo }: World,
  spec: object,
  check: (deployment: Deployment, ranks: readonly Pod[]) => Promise<void>,
): Promise<void> {
  const { apiVersion, kind, spec: own } = await demo.read();
  const metadata = { name: NAME, namespace: NAMESPACE };
  await kubernetes.apply({ apiVersion, kind, metadata, spec: { ...own, replicas: 1, ...spec } });
  const deployment = await kubernetes.until<Deployment, Deployment>(
    'the deployment with devices to be Ready',
    DEPLOYMENTS,
    ([seen]) => (seen !== undefined && condition(seen, 'Ready')?.status === 'True' ? seen : undefined),
  );
  const ranks = await kubernetes.list<Pod>(`${PODS},app.kubernetes.io/component%3Druntime`);
  expect([...nodesOfGroups(ranks).values()].map(({ size }) => size)).toEqual([1]);
  await check(deployment, ranks);
  await kubernetes.kubectl('delete', 'internvldeployment', NAME);
  for (const path of [PODS, CLAIMS])
    await kubernetes.until<ApiObject, true>('nothing to be left', path, (left) => left.length === 0);
}
