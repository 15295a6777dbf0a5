// What rank 0 of a group measured of the interconnect before it loaded, as routers pass it on. It belongs to that one attempt of the group: to its pod.

/** How the ranks of one group reach each other. */
export interface InterconnectReport {
  /** What computes: of CPUs the path says nothing about devices. */
  readonly backend: 'cpu' | 'cuda';
  /** The slowest between two ranks, in the backend's words. */
  readonly path: string;
  /** Every rank reaches the memory of every other's device. */
  readonly direct: boolean;
  /** What every link carried during an all-reduce of reducedBytes. */
  readonly busGigabytesPerSecond: number;
  readonly reducedBytes: number;
  /** Of an all-reduce of one token. */
  readonly latencyMicroseconds: number;
  /** What keeps the devices from reaching each other, first what is to be changed first. */
  readonly failedGates: readonly FailedGate[];
}

export interface FailedGate {
  /** Becomes the reason of the condition. */
  readonly gate: string;
  /** What was found, and what to change. */
  readonly message: string;
}

const MOST_GATES = 16;
const MOST_MESSAGE_CHARACTERS = 512;
const MOST_PATH_CHARACTERS = 64;
/** The API server takes no other reasons. */
const REASON = /^[A-Z][A-Za-z0-9]{0,63}$/;

/** Of what a router wrote, or of a status that was written before; undefined for what is no report. */
export function readInterconnect(value: unknown): InterconnectReport | undefined {
  if (!isObject(value)) return undefined;
  const { backend, path, direct, failedGates } = value;
  if ((backend !== 'cpu' && backend !== 'cuda') || typeof path !== 'string') return undefined;
  return {
    backend,
    path: path.slice(0, MOST_PATH_CHARACTERS),
    direct: direct === true,
    busGigabytesPerSecond: figure(value['busGigabytesPerSecond']),
    reducedBytes: Math.round(number(value['reducedBytes'])),
    latencyMicroseconds: figure(value['latencyMicroseconds']),
    failedGates: (Array.isArray(failedGates) ? failedGates : []).flatMap(readGate).slice(0, MOST_GATES),
  };
}

function readGate(value: unknown): FailedGate[] {
  if (!isObject(value)) return [];
  const { gate, message } = value;
  if (typeof gate !== 'string' || !REASON.test(gate) || typeof message !== 'string') return [];
  return [{ gate, message: message.slice(0, MOST_MESSAGE_CHARACTERS) }];
}

/** Three digits are what a measurement of a quarter of a second is worth. */
function figure(value: unknown): number {
  return Number(number(value).toPrecision(3));
}

function number(value: unknown): number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : 0;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
