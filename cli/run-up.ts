import { readManifest } from '../local/read-manifest.ts';
import { removeReadyFile, writeReadyFile, type Endpoints } from '../local/ready-file.ts';
import { EXIT } from './exit-codes.ts';
import { interruptSignal } from './interrupt.ts';
import { progressDisplay } from './progress-display.ts';
import { failureOf, runLocal } from './run-local.ts';
import { styler } from './terminal.ts';
import type { UpFlags } from './up.ts';

/** Runs `internvl up` until it is interrupted; throws CliError, ManifestError or PortInUse. */
export async function runUp(flags: UpFlags): Promise<void> {
  const deployment = await readManifest(flags.file);
  // One that a killed predecessor left would be taken for ours.
  if (flags.readyFile !== undefined) await removeReadyFile(flags.readyFile);
  const { name } = deployment.metadata;
  const { replicas, tensorParallel, router } = deployment.spec;
  const display = progressDisplay(process.stdout);
  const style = styler(process.stdout);
  let announced = false;
  // One write after the other, so that the file never goes back to an older state.
  let writing = Promise.resolve();

  const interrupt = interruptSignal(() => process.exit(EXIT.interrupted)); // children are killed on exit
  display.note(`${name}: starting ${count(replicas, 'replica')} of ${count(tensorParallel.size, 'rank')}`);
  const local = await runLocal(deployment, {
    host: flags.host,
    grpcPort: flags.grpcPort ?? router.service.grpcPort,
    display,
    onReady: (endpoints) => {
      display.done();
      if (flags.readyFile !== undefined) {
        const file = flags.readyFile;
        writing = writing.then(() => writeReadyFile(file, endpoints));
        writing.catch((error: unknown) => display.note(`cannot write ${file}: ${String(error)}`));
      }
      display.note(announced ? `${name}: ready again` : style('bold', greeting(name, endpoints)));
      announced = true;
    },
  });
  let failed = true;
  try {
    await Promise.race([failureOf(local), aborted(interrupt.signal)]);
    failed = false;
    display.note(`${name}: finishing what is under way (Ctrl-C again to end at once)`);
  } finally {
    await writing.catch(() => {}); // told above
    if (flags.readyFile !== undefined) await removeReadyFile(flags.readyFile);
    await local.stop({ keepLogs: failed });
    interrupt.dispose();
  }
  display.note(`${name}: stopped`);
}

function count(amount: number, noun: string): string {
  return `${amount} ${noun}${amount === 1 ? '' : 's'}`;
}

function greeting(name: string, { grpc, metrics, logs }: Endpoints): string {
  return [
    `${name}: ready at ${grpc}`,
    `  ask:      internvl chat --server ${grpc}`,
    `            internvl generate --server ${grpc} --prompt 'Hello'`,
    `  metrics:  http://${metrics}/metrics`,
    `  logs:     ${logs}`,
    '  stop:     Ctrl-C',
  ].join('\n');
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
