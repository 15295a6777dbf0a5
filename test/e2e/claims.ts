// Devices by claim: the ranks of a group are pods of their own and have all devices of the group, by one claim.

import { expect } from 'vitest';
import { condition, NAMESPACE, nodesOfGroups, type Deployment, type Pod } from './demo.ts';
import type { ApiObject } from './kubernetes.ts';
import type { World } from './world.ts';

const NAME = 'claimed';
/** Of test/cluster/dra-driver. */
const DEVICE_CLASS = 'gpu.internvl.test';
const CLAIMS = `/apis/resource.k8s.io/v1/namespaces/${NAMESPACE}/resourceclaims`;
const PODS = `/api/v1/namespaces/${NAMESPACE}/pods?labelSelector=internvl.dev/deployment%3D${NAME}`;
const DEPLOYMENTS = `/apis/internvl.dev/v1alpha1/namespaces/${NAMESPACE}/internvldeployments?fieldSelector=metadata.name%3D${NAME}`;

interface Claim extends ApiObject {
  readonly status?: {
    readonly allocation?: { readonly devices?: { readonly results?: readonly { device: string }[] } };
    readonly reservedFor?: readonly { readonly resource: string; readonly uid: string }[];
  };
}

/** A deployment whose group shares a claim, from `kubectl apply` to Ready and until nothing of it is left. */
export async function shareClaim({ kubernetes, demo }: World): Promise<void> {
  const { apiVersion, kind, spec } = await demo.read();
  await kubernetes.apply({
    apiVersion,
    kind,
    metadata: { name: NAME, namespace: NAMESPACE },
    spec: { ...spec, replicas: 1, device: { deviceClassName: DEVICE_CLASS } },
  });
  const deployment = await kubernetes.until<Deployment, Deployment>(
    'the deployment with a claim to be Ready',
    DEPLOYMENTS,
    ([seen]) => (seen !== undefined && condition(seen, 'Ready')?.status === 'True' ? seen : undefined),
  );
  expect(condition(deployment, 'ModelLoaded')).toMatchObject({ status: 'True' });

  const ranks = await kubernetes.list<Pod>(`${PODS},app.kubernetes.io/component%3Druntime`);
  expect([...nodesOfGroups(ranks).values()].map(({ size }) => size)).toEqual([1]);
  const claims = await kubernetes.list<Claim>(CLAIMS);
  expect(claims).toHaveLength(1);
  const { allocation, reservedFor } = claims[0]?.status ?? {};
  const devices = allocation?.devices?.results?.map(({ device }) => device);
  expect(new Set(devices).size).toBe(2);
  expect(reservedFor?.map(({ resource, uid }) => `${resource} ${uid}`).toSorted()).toEqual(
    ranks.map(({ metadata }) => `pods ${metadata.uid}`).toSorted(),
  );

  await kubernetes.kubectl('delete', 'internvldeployment', NAME);
  for (const path of [PODS, CLAIMS])
    await kubernetes.until<ApiObject, true>('nothing to be left', path, (left) => left.length === 0);
}
