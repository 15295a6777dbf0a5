// A local deployment for the length of a command, with its failure told in full.
import type { Endpoints } from '../local/ready-file.ts';
import { startDeployment, type LocalDeployment } from '../local/deployment.ts';
import { parseManifest } from '../local/manifest.ts';
import { assertModelDirectory, withModelDirectory } from '../local/model-directory.ts';
import { GroupFailed } from '../local/process-group.ts';
import { parseProcessEvent } from '../local/progress.ts';
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { resolve } from 'node:path';
import { CliError } from './cli-error.ts';
import { EXIT } from './exit-codes.ts';
import type { ProgressDisplay } from './progress-display.ts';

export interface RunLocalOptions {
  readonly host: string;
  readonly grpcPort: number;
  readonly display: ProgressDisplay;
  readonly onReady?: (endpoints: Endpoints) => void;
}

/** Starts a checked deployment and hands it over at once; await `untilReady` on it. */
export async function runLocal(
  deployment: InternVLDeployment,
  options: RunLocalOptions,
): Promise<LocalDeployment> {
  const { display, onReady } = options;
  return await startDeployment(deployment, {
    host: options.host,
    grpcPort: options.grpcPort,
    observer: {
      progress: (replicas) => display.update(replicas),
      notice: (text) => display.note(text),
      ready: (endpoints) => onReady?.(endpoints),
    },
  });
}

/** Resolves when every replica is ready, or when the signal says to stop waiting; throws CliError when it cannot become ready. */
export async function untilReady(local: LocalDeployment, signal: AbortSignal): Promise<void> {
  const stopped = new Promise<void>((done) => {
    if (signal.aborted) done();
    else signal.addEventListener('abort', () => done(), { once: true });
  });
  await Promise.race([local.ready, failureOf(local), stopped]);
}

/** Rejects with what to tell the user when the deployment cannot serve any more. */
export async function failureOf(local: LocalDeployment): Promise<never> {
  try {
    return await local.failed;
  } catch (error) {
    throw describeFailure(error, local.logs);
  }
}

function describeFailure(error: unknown, logs: string): unknown {
  if (!(error instanceof GroupFailed)) return error;
  const problem = error.tail.map(parseProcessEvent).findLast((event) => event?.kind === 'fatal');
  const why = problem?.kind === 'fatal' && problem.problem !== '' ? `: ${problem.problem}` : '';
  // The last lines help only where the process did not say itself what was wrong.
  const lines =
    why === '' && error.tail.length > 0 ? `\n${error.tail.map((line) => `  | ${line}`).join('\n')}` : '';
  return new CliError(`${error.message}${why}${lines}`, {
    exitCode: EXIT.failed,
    code: 'FAILED',
    hint: `its log is ${error.logFile}; all logs are in ${logs}`,
    cause: error,
  });
}

/** What `--model DIR` serves: one replica of the model, nothing kept waiting for others. */
export async function deploymentOf(
  directory: string,
  engine: {
    readonly dtype: string;
    readonly quantization: string;
    readonly kvCacheDtype: string;
    readonly tensorParallelSize: number;
  },
): Promise<InternVLDeployment> {
  await assertModelDirectory(directory, '--model');
  const manifest = {
    apiVersion: 'internvl.dev/v1alpha1',
    kind: 'InternVLDeployment',
    metadata: { name: 'local' },
    spec: {
      model: { source: 'file:.' },
      tensorParallel: { size: engine.tensorParallelSize },
      engine: {
        dtype: engine.dtype,
        quantization: engine.quantization,
        kvCache: { dtype: engine.kvCacheDtype },
      },
      // Nobody waits for a command that cannot start its model: what fails once fails.
      rollout: { maxGroupRestarts: 1, drainTimeout: '5s' },
    },
  };
  return withModelDirectory(parseManifest(JSON.stringify(manifest), 'internvl'), resolve(directory));
}
