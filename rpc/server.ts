// A gRPC server as every process here runs it: health, reflection, size limits, guarded handlers, a bounded shutdown.

import type { PackageDefinition } from '@grpc/proto-loader';
import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { ReflectionService } from '@grpc/reflection';
import { BinaryReader } from '@bufbuild/protobuf/wire';
import { HealthImplementation } from 'grpc-health-check';
import { formatAddress, parseAddress } from './address.ts';
import { bindError } from './bind-error.ts';
import { GrpcServer } from './grpc/server.ts';
import { guardHandlers } from './guard.ts';
import { KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS } from './keepalive.ts';
import { describeError } from './log.ts';
import type { Logger } from './log.ts';

export interface ServedService {
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
}

export interface ServerOptions {
  /** Largest message received or sent, in bytes; a larger one ends its call with RESOURCE_EXHAUSTED. */
  readonly maxMessageBytes: number;
  readonly services: readonly ServedService[];
  /** A serialized FileDescriptorSet that holds the services (gen/descriptors.binpb): what reflection answers from. */
  readonly descriptors: Buffer;
  readonly logger?: Logger;
}

export interface RpcServer {
  /** Starts to listen and returns HOST:PORT with the port that was bound. Throws PortInUse or BindError. */
  bind(address: string): Promise<string>;
  /** Health of the server ('') and of each of its services together. All start as NOT_SERVING. */
  setServing(serving: boolean): void;
  /** Takes no new connection, lets live calls end, and cuts what is left after graceMs. Never rejects. */
  shutdown(graceMs: number): Promise<void>;
}

/** Creates a server with grpc.health.v1 and reflection beside the given services. */
export function createServer(options: ServerOptions): RpcServer {
  const server = new GrpcServer({
    maxMessageBytes: options.maxMessageBytes,
    keepaliveMs: KEEPALIVE_MS,
    keepaliveTimeoutMs: KEEPALIVE_TIMEOUT_MS,
    maxConcurrentStreams: 4096,
  });
  const names = options.services.map(({ definition }) => serviceName(definition));
  for (const { definition, implementation } of options.services) {
    server.addService(
      definition,
      guardHandlers(definition, implementation, (id, err) =>
        options.logger?.error('internal error', { id, err: describeError(err) }),
      ),
    );
  }
  const health = new HealthImplementation();
  const setServing = (serving: boolean): void => {
    for (const name of ['', ...names]) health.setStatus(name, serving ? 'SERVING' : 'NOT_SERVING');
  };
  setServing(false);
  health.addToServer(server);
  addReflection(server, options.descriptors, names);
  return {
    bind: (address) => bind(server, address),
    setServing,
    shutdown: (graceMs) => shutdown(server, graceMs),
  };
}

function serviceName(definition: ServiceDefinition): string {
  const path = Object.values(definition)[0]?.path ?? '';
  return path.split('/')[1] ?? '';
}

/**
 * Reflection answers with the compiler's own descriptors. Going through a proto-loader package instead would rebuild them, and lose the names
 * of JSON fields and of map entries on the way: strict clients refuse such descriptors.
 */
function addReflection(server: GrpcServer, descriptors: Buffer, names: readonly string[]): void {
  const packages = { descriptors: { fileDescriptorProtos: filesOf(descriptors) } };
  new ReflectionService(packages as unknown as PackageDefinition, {
    services: [...names, 'grpc.health.v1.Health'],
  }).addToServer(server);
}

/** The serialized FileDescriptorProtos of a serialized FileDescriptorSet: its field 1, repeated. */
function filesOf(descriptors: Buffer): Buffer[] {
  const reader = new BinaryReader(descriptors);
  const files: Buffer[] = [];
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === 1) files.push(Buffer.from(reader.bytes()));
    else reader.skip(wireType, field);
  }
  return files;
}

async function bind(server: GrpcServer, address: string): Promise<string> {
  const { host, port } = parseAddress(address);
  try {
    return formatAddress({ host, port: await server.bind(host, port) });
  } catch (error) {
    throw bindError(address, error as Error);
  }
}

async function shutdown(server: GrpcServer, graceMs: number): Promise<void> {
  const timer = setTimeout(() => server.forceShutdown(), graceMs);
  await server.tryShutdown();
  clearTimeout(timer);
}
