// GPUs without GPUs: a kubelet device plugin (v1beta1) that advertises COUNT devices of RESOURCE and tells a container which ones
// it was given in NVIDIA_VISIBLE_DEVICES. Speaks only over the kubelet's unix sockets.
//   RESOURCE=nvidia.com/gpu COUNT=4 PREFIX=<host name> DIRECTORY=/var/lib/kubelet/device-plugins
//   UNHEALTHY_FILE: device ids, one a line, to report as Unhealthy; read again whenever it changes
// Ends with 1 when the kubelet takes its socket away, which is how a restarted kubelet asks to register again: run it in a loop.

import { existsSync, readFileSync, rmSync, watchFile } from 'node:fs';
import { hostname } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  Client,
  credentials,
  loadPackageDefinition,
  Server,
  ServerCredentials,
  type sendUnaryData,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceClientConstructor,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

interface Devices {
  readonly devices: readonly { readonly ID: string; readonly health: 'Healthy' | 'Unhealthy' }[];
}
interface AllocateRequest {
  readonly container_requests: readonly { readonly devices_ids: readonly string[] }[];
}

const env = process.env;
const resource = env['RESOURCE'] ?? 'nvidia.com/gpu';
const count = Number(env['COUNT'] ?? 4);
const prefix = env['PREFIX'] ?? hostname();
const directory = env['DIRECTORY'] ?? '/var/lib/kubelet/device-plugins';
const unhealthyFile = env['UNHEALTHY_FILE'];
const socket = join(directory, `${resource.replace(/\W/g, '-')}.sock`);
const ids = Array.from({ length: count }, (_, i) => `GPU-${prefix}-${i}`);

function service(name: string): ServiceClientConstructor {
  const proto = fileURLToPath(new URL('deviceplugin.proto', import.meta.url));
  const { v1beta1 } = loadPackageDefinition(loadSync(proto, { keepCase: true, defaults: true }));
  return (v1beta1 as Record<string, unknown>)[name] as ServiceClientConstructor;
}

function devices(): Devices {
  const listed =
    unhealthyFile !== undefined && existsSync(unhealthyFile) ? readFileSync(unhealthyFile, 'utf8') : '';
  const unhealthy = new Set(listed.split(/\s+/));
  return { devices: ids.map((ID) => ({ ID, health: unhealthy.has(ID) ? 'Unhealthy' : 'Healthy' })) };
}

type Stream = ServerWritableStream<unknown, Devices>;
const streams = new Set<Stream>();
if (unhealthyFile !== undefined) {
  watchFile(unhealthyFile, { interval: 500 }, () => {
    for (const stream of streams) stream.write(devices());
  });
}

const nothing = (_call: unknown, reply: sendUnaryData<object>) => {
  reply(null, {});
};
const server = new Server();
server.addService(service('DevicePlugin').service, {
  GetDevicePluginOptions: nothing,
  GetPreferredAllocation: nothing,
  PreStartContainer: nothing,
  ListAndWatch(stream: Stream) {
    streams.add(stream);
    stream.on('cancelled', () => streams.delete(stream));
    stream.write(devices());
  },
  Allocate(call: ServerUnaryCall<AllocateRequest, object>, reply: sendUnaryData<object>) {
    const container_responses = call.request.container_requests.map(({ devices_ids }) => {
      console.log(`allocate ${devices_ids.join(' ')}`);
      return { envs: { NVIDIA_VISIBLE_DEVICES: devices_ids.join(',') } };
    });
    reply(null, { container_responses });
  },
});

function end(reason: string): never {
  console.error(reason);
  process.exit(1);
}

rmSync(socket, { force: true });
server.bindAsync(`unix://${socket}`, ServerCredentials.createInsecure(), (error) => {
  if (error !== null) end(`cannot listen on ${socket}: ${error.message}`);
  const register = service('Registration').service['Register'];
  if (register === undefined) end('deviceplugin.proto has no Registration.Register');
  new Client(`unix://${join(directory, 'kubelet.sock')}`, credentials.createInsecure()).makeUnaryRequest(
    register.path,
    register.requestSerialize,
    register.responseDeserialize,
    { version: 'v1beta1', endpoint: basename(socket), resource_name: resource, options: {} },
    { deadline: Date.now() + 5000 },
    (failure) => {
      if (failure !== null) end(`the kubelet refused: ${failure.message}`);
      console.log(`registered ${count} x ${resource}`);
      setInterval(() => {
        if (!existsSync(socket)) end('socket removed: the kubelet was restarted');
      }, 500);
    },
  );
});
