// GPUs without GPUs, by claim: a DRA driver that publishes COUNT devices of NODE and hands a claim's devices to every pod that has it.
// No CDI device comes of it, which the API allows and which containerd before 2.0 would not know.
//   NODE=node-a COUNT=4 DIRECTORY=/var/lib/kubelet KUBECONFIG=<of one who may write ResourceSlices and read claims>
// Devices are published again and again: a kubelet that starts removes the slices of its node.

import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import {
  loadPackageDefinition,
  Server,
  ServerCredentials,
  type sendUnaryData,
  type ServerUnaryCall,
  type ServiceClientConstructor,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { KubeConfig } from '@kubernetes/client-node';
import { ApiClient } from '../../../operator/kube/api-client.ts';
import type { Resource } from '../../../operator/kube/object.ts';
import { RESOURCE_CLAIMS } from '../../../operator/kube/resources.ts';

const DRIVER = 'gpu.internvl.test';
const RESOURCE_SLICES: Resource = {
  apiVersion: 'resource.k8s.io/v1',
  kind: 'ResourceSlice',
  plural: 'resourceslices',
  namespaced: false,
};
const PUBLISH_AGAIN_MS = 3000;

interface Claims {
  readonly claims: readonly { readonly namespace: string; readonly uid: string; readonly name: string }[];
}
interface AllocatedClaim {
  readonly metadata: { readonly uid: string };
  readonly status?: {
    readonly allocation?: {
      readonly devices?: {
        readonly results?: readonly { driver: string; request: string; pool: string; device: string }[];
      };
    };
  };
}

const env = process.env;
const node = env['NODE'] ?? '';
const directory = env['DIRECTORY'] ?? '/var/lib/kubelet';
const socket = join(directory, 'plugins_registry', `${DRIVER}-reg.sock`);
const devices = Array.from({ length: Number(env['COUNT'] ?? 4) }, (_, i) => ({ name: `gpu-${i}` }));

const config = new KubeConfig();
config.loadFromFile(env['KUBECONFIG'] ?? '');
const client = ApiClient.fromKubeConfig(config, { userAgent: DRIVER });

async function publish(): Promise<void> {
  const slice = {
    apiVersion: RESOURCE_SLICES.apiVersion,
    kind: RESOURCE_SLICES.kind,
    metadata: { name: `${node}-${DRIVER}` },
    spec: {
      driver: DRIVER,
      nodeName: node,
      pool: { name: node, generation: 1, resourceSliceCount: 1 },
      devices,
    },
  };
  await client.apply(RESOURCE_SLICES, slice, { fieldManager: DRIVER, force: true });
}

/** The devices of a claim as the scheduler chose them. */
async function prepared({ namespace, name, uid }: Claims['claims'][number]): Promise<object> {
  const { metadata, status } = await client.get<AllocatedClaim>(RESOURCE_CLAIMS, `${namespace}/${name}`);
  if (metadata.uid !== uid) return { error: `claim ${namespace}/${name} is another one by now` };
  const results = status?.allocation?.devices?.results ?? [];
  return {
    devices: results
      .filter(({ driver }) => driver === DRIVER)
      .map(({ request, pool, device }) => ({
        request_names: [request],
        pool_name: pool,
        device_name: device,
      })),
  };
}

async function prepareAll({ claims }: Claims, reply: sendUnaryData<object>): Promise<void> {
  const outcomes: Record<string, object> = {};
  for (const claim of claims) {
    const outcome = await prepared(claim).catch((error: unknown) => ({ error: String(error) }));
    console.log(`prepare ${claim.namespace}/${claim.name}: ${JSON.stringify(outcome)}`);
    outcomes[claim.uid] = outcome;
  }
  reply(null, { claims: outcomes });
}

function definition(file: string, path: readonly string[]): ServiceClientConstructor['service'] {
  const proto = fileURLToPath(new URL(file, import.meta.url));
  let found: unknown = loadPackageDefinition(loadSync(proto, { keepCase: true, defaults: true }));
  for (const part of path) found = (found as Record<string, unknown>)[part];
  return (found as ServiceClientConstructor).service;
}

const server = new Server();
server.addService(definition('pluginregistration.proto', ['pluginregistration', 'Registration']), {
  GetInfo(_call: unknown, reply: sendUnaryData<object>) {
    reply(null, { type: 'DRAPlugin', name: DRIVER, endpoint: socket, supported_versions: ['v1.DRAPlugin'] });
  },
  NotifyRegistrationStatus(
    { request }: ServerUnaryCall<{ plugin_registered: boolean; error: string }, object>,
    reply: sendUnaryData<object>,
  ) {
    console.log(request.plugin_registered ? 'registered' : `the kubelet refused: ${request.error}`);
    reply(null, {});
  },
});
const PACKAGE = ['k8s', 'io', 'kubelet', 'pkg', 'apis', 'dra', 'v1'];
server.addService(definition('dra.proto', [...PACKAGE, 'DRAPlugin']), {
  NodePrepareResources({ request }: ServerUnaryCall<Claims, object>, reply: sendUnaryData<object>) {
    void prepareAll(request, reply);
  },
  NodeUnprepareResources({ request }: ServerUnaryCall<Claims, object>, reply: sendUnaryData<object>) {
    for (const { namespace, name } of request.claims) console.log(`unprepare ${namespace}/${name}`);
    reply(null, { claims: Object.fromEntries(request.claims.map(({ uid }) => [uid, {}])) });
  },
});

mkdirSync(join(directory, 'plugins_registry'), { recursive: true });
rmSync(socket, { force: true });
const bind = promisify(server.bindAsync.bind(server));
await bind(`unix://${socket}`, ServerCredentials.createInsecure());
for (;;) {
  try {
    await publish();
  } catch (error) {
    console.error(`could not publish: ${String(error)}`);
  }
  await pause(PUBLISH_AGAIN_MS);
}
