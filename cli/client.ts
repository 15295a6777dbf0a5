import { connectivityState, credentials, Metadata, status, type ServiceError } from '@grpc/grpc-js';
import { InferenceClient, type Model } from '../gen/proto/internvl/v1/inference.ts';
import { parseAddress } from '../rpc/address.ts';
import { parseDetails } from '../rpc/status.ts';
import { CliError, usageError } from './cli-error.ts';
import { EXIT } from './exit-codes.ts';

export const DEFAULT_SERVER = '127.0.0.1:50051';
const MAX_MESSAGE_BYTES = 256 * 2 ** 20;
const CONNECT_TIMEOUT_MS = 5000;

/** A client of HOST:PORT; throws a CliError (unavailable) when nothing answers there. */
export async function connect(server: string): Promise<InferenceClient> {
  const { host } = parseServer(server);
  const client = new InferenceClient(server, credentials.createInsecure(), {
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
    // A proxy from the environment must not come between this machine and itself.
    ...(/^(localhost|127\.|::1$)/.test(host) && { 'grpc.enable_http_proxy': 0 }),
  });
  try {
    await connected(client, server);
  } catch (error) {
    client.close();
    throw error;
  }
  return client;
}

/** Unlike waitForReady, ends with the first refusal instead of trying on until the deadline. */
async function connected(client: InferenceClient, server: string): Promise<void> {
  const channel = client.getChannel();
  const deadline = Date.now() + CONNECT_TIMEOUT_MS;
  for (;;) {
    const state = channel.getConnectivityState(true);
    if (state === connectivityState.READY) return;
    if (state === connectivityState.TRANSIENT_FAILURE) throw unreachable(server);
    await new Promise<void>((resolve, reject) => {
      channel.watchConnectivityState(state, deadline, (error) => {
        if (error === undefined) resolve();
        else reject(unreachable(server, error));
      });
    });
  }
}

function parseServer(server: string): { host: string } {
  try {
    return parseAddress(server);
  } catch (error) {
    throw usageError(`--server: ${(error as Error).message}`);
  }
}

function unreachable(server: string, cause?: Error): CliError {
  return new CliError(`nothing answers at ${server}`, {
    exitCode: EXIT.unavailable,
    code: 'UNAVAILABLE',
    hint: 'start one with `internvl up -f examples/demo.yaml`, or name another with --server HOST:PORT',
    ...(cause !== undefined && { cause }),
  });
}

/** What is served. */
export function getModel(client: InferenceClient): Promise<Model> {
  return new Promise((resolve, reject) => {
    client.getModel(
      { model: '' },
      new Metadata(),
      { deadline: Date.now() + CONNECT_TIMEOUT_MS },
      (error, model) => {
        if (error === null) resolve(model);
        else reject(fromServiceError(error));
      },
    );
  });
}

/** A call's error with its status and reason. */
export function fromServiceError(error: ServiceError): CliError {
  const { reason, retryAfterMs } = parseDetails(error);
  const hint = retryAfterMs === undefined ? undefined : `try again in ${(retryAfterMs / 1000).toFixed(1)} s`;
  return new CliError(error.details === '' ? error.message : error.details, {
    exitCode: error.code === status.UNAVAILABLE ? EXIT.unavailable : EXIT.failed,
    code: status[error.code] ?? 'UNKNOWN',
    ...(reason !== undefined && { reason }),
    ...(hint !== undefined && { hint }),
    cause: error,
  });
}
