// What lets ranks reach each other's devices. NCCL goes through four gates in this order: same host, same /dev/shm, the peer's device granted,
// a socket path to pass handles over. Passing the first two without the others is worse than passing none: NCCL then has chosen the direct
// path and fails on it. So the settings below come together or not at all (docs/interconnect.md).
import type { V1EnvVar, V1Volume, V1VolumeMount } from '@kubernetes/client-node';
import type { RevisionTemplate } from '../revision.ts';
import { groupName, type GroupPlace } from './group-place.ts';

const HOST_SHM = '/dev/shm';

/** Ranks are in pods of their own and yet granted all devices of the group. */
export function sharesDevicesAcrossPods(template: RevisionTemplate): boolean {
  const { tensorParallel, device } = template.spec;
  return (
    device?.deviceClassName !== undefined &&
    tensorParallel.topology === 'PodPerRank' &&
    tensorParallel.size > 1
  );
}

/** Ranks have devices and somebody to exchange with. */
function exchangesBetweenDevices({ spec }: RevisionTemplate): boolean {
  return spec.device !== undefined && spec.tensorParallel.size > 1;
}

/** Which device a rank takes, how it finds its peers' memory, and whether it may do without. */
export function deviceEnvironment(template: RevisionTemplate, place: GroupPlace, rank: number): V1EnvVar[] {
  // As a variable: a revision's image may be older than the flag, and passes over what it does not know.
  const demand: V1EnvVar[] =
    place.interconnectRequired === true && exchangesBetweenDevices(template)
      ? [{ name: 'INTERNVL_INTERCONNECT', value: 'required' }]
      : [];
  const own: V1EnvVar[] =
    template.spec.device?.deviceClassName === undefined
      ? demand
      : [
          ...demand,
          // Every rank sees all devices of the claim; the order must be the same in all of them.
          { name: 'CUDA_DEVICE_ORDER', value: 'PCI_BUS_ID' },
          { name: 'CUDA_VISIBLE_DEVICES', value: String(rank) },
        ];
  if (!sharesDevicesAcrossPods(template)) return own;
  return [
    ...own,
    { name: 'NODE_NAME', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
    // Pods differ in host name, by which NCCL tells hosts apart.
    { name: 'NCCL_HOSTID', value: `${groupName(place)}-$(NODE_NAME)` },
    // Abstract sockets end at the pod's network namespace; files in the shared /tmp do not.
    { name: 'NCCL_IPC_USE_ABSTRACT_SOCKET', value: '0' },
  ];
}

/** /tmp and /dev/shm: the node's shared memory for both where pods share devices, otherwise the pod's own. */
export function scratchVolumes(template: RevisionTemplate): { volumes: V1Volume[]; mounts: V1VolumeMount[] } {
  if (sharesDevicesAcrossPods(template))
    return {
      // The directory itself, which every user may write to: one below it would be made by the kubelet for root alone.
      volumes: [{ name: 'shm', hostPath: { path: HOST_SHM, type: 'Directory' } }],
      mounts: [
        { name: 'shm', mountPath: '/tmp' },
        { name: 'shm', mountPath: HOST_SHM },
      ],
    };
  return {
    volumes: [
      { name: 'tmp', emptyDir: { sizeLimit: '1Gi' } },
      { name: 'shm', emptyDir: { medium: 'Memory', sizeLimit: '2Gi' } },
    ],
    mounts: [
      { name: 'tmp', mountPath: '/tmp' },
      { name: 'shm', mountPath: HOST_SHM },
    ],
  };
}
