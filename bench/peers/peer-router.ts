// A router of others as a process.
import { spawn, type ChildProcess } from 'node:child_process';
import { createServer, type AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { stop } from '../processes.ts';
import { sseClient } from './stream-clients.ts';

const START_MS = 60_000;
const KEPT_OUTPUT = 4000;

export interface PeerRouter {
  readonly child: ChildProcess;
  readonly address: string;
}

/** `args` makes its command line from the port to listen on and one for metrics. Throws with its last words when it does not serve. */
export async function startPeerRouter(
  program: string,
  args: (port: number, metricsPort: number) => readonly string[],
): Promise<PeerRouter> {
  const [port, metricsPort] = [await freePort(), await freePort()];
  const child = spawn(program, args(port, metricsPort), { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (output = (output + chunk.toString()).slice(-KEPT_OUTPUT)));
  child.on('error', (error) => (output += error.message));
  const address = `127.0.0.1:${port}`;
  const client = sseClient([address]);
  try {
    for (const end = performance.now() + START_MS; ; await pause(200)) {
      const failure = await client.once().then(
        () => undefined,
        (error: Error) => error.message,
      );
      if (failure === undefined) return { child, address };
      if (child.pid === undefined || child.exitCode !== null || performance.now() > end)
        throw new Error(`it does not serve (${failure}): ${output.trim().split('\n').at(-1) ?? ''}`);
    }
  } catch (error) {
    if (child.pid !== undefined) await stop({ child });
    throw error;
  } finally {
    client.close();
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
