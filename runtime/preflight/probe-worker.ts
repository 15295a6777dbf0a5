// Entry of the thread of a rank that only measures: the one thread that calls native code, which blocks while it waits for peers.

import { parentPort, workerData } from 'node:worker_threads';
import { native } from '../native/index.ts';
import { CPU_TRANSPORT, measureLinks } from './transport.ts';
import type { FromProbe, ProbeOptions, ToProbe } from './probe-thread.ts';

const port = parentPort;
if (port === null) throw new Error('probe-worker.ts runs as a worker thread');
const { rank, worldSize, host, timeoutMs } = workerData as ProbeOptions;
let created = false;

function answer(request: ToProbe): FromProbe {
  const links = native();
  if (request.type === 'join') {
    if (created) links.closeCollective();
    links.setThreads(1);
    const addresses = links.createCollective(rank, worldSize, host, timeoutMs);
    created = true;
    return { type: 'joined', addresses };
  }
  links.connectCollective(request.peerAddresses);
  const { extent } = request;
  return { type: 'measured', measured: measureLinks(links, CPU_TRANSPORT, { rank, worldSize, extent }) };
}

port.on('message', (request: ToProbe) => {
  try {
    port.postMessage(answer(request));
  } catch (err) {
    port.postMessage({ type: 'failed', message: (err as Error).message } satisfies FromProbe);
  }
});
