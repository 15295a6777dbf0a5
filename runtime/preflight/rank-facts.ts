// What decides which path the ranks' devices take to each other, as one rank finds it on its machine.

/** A GPU whose device node the rank finds. */
export interface Gpu {
  /** N of /dev/nvidiaN; one number for one GPU on all of a node. */
  readonly minor: number;
  /** Empty where the driver does not tell. */
  readonly busId: string;
  readonly uuid: string;
}

export interface RankFacts {
  readonly hostName: string;
  /** Of the running kernel: equal for everything on one node. */
  readonly bootId: string;
  /** The namespaces' links in /proc; equal only for processes of one node that share them. */
  readonly networkNamespace: string;
  readonly pidNamespace: string;
  /** Device number of /dev/shm; empty without one. */
  readonly shmDevice: string;
  /** What it holds at most. */
  readonly shmBytes: number;
  /** Device and inode number of /tmp. */
  readonly tmpDirectory: string;
  /** Of SETTINGS, those that are set. */
  readonly settings: Readonly<Record<string, string>>;
  /** In the order in which CUDA counts them with CUDA_DEVICE_ORDER=PCI_BUS_ID. */
  readonly gpus: readonly Gpu[];
  /** Empty without one. */
  readonly driverVersion: string;
  /** Channels in /dev/nvidia-caps-imex-channels. */
  readonly imexChannels: readonly number[];
}

/** The variables of NCCL and CUDA that bear on the path. */
export const SETTINGS = [
  'NCCL_HOSTID',
  'NCCL_IPC_USE_ABSTRACT_SOCKET',
  'NCCL_CUMEM_ENABLE',
  'NCCL_P2P_DISABLE',
  'NCCL_P2P_LEVEL',
  'NCCL_SHM_DISABLE',
  'NCCL_MNNVL_ENABLE',
  'NCCL_NET',
  'CUDA_DEVICE_ORDER',
  'CUDA_VISIBLE_DEVICES',
  'NVIDIA_VISIBLE_DEVICES',
] as const;

export type Setting = (typeof SETTINGS)[number];

/** By bus, as CUDA counts; by number where the driver does not tell the bus. */
export function inCudaOrder(gpus: readonly Gpu[]): Gpu[] {
  const known = gpus.every(({ busId }) => busId !== '');
  const key = ({ busId, minor }: Gpu): string =>
    known ? busId.toLowerCase() : String(minor).padStart(8, '0');
  return gpus.toSorted((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0));
}
