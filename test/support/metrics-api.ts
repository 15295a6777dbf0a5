// metrics.k8s.io for autoscaler tests: every pod uses as much CPU as the last line on stdin says, in millicores. Run beside the API
// server: `node metrics-api.ts --kubeconfig FILE --key FILE --cert FILE --listen HOST:PORT`; prints "listening" once it serves.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { CoreV1Api, KubeConfig } from '@kubernetes/client-node';

const GROUP_VERSION = 'metrics.k8s.io/v1beta1';
const { values } = parseArgs({
  options: {
    kubeconfig: { type: 'string' },
    key: { type: 'string' },
    cert: { type: 'string' },
    listen: { type: 'string' },
  },
});
const { kubeconfig, key, cert, listen } = values;
if (kubeconfig === undefined || key === undefined || cert === undefined || listen === undefined)
  throw new Error('--kubeconfig, --key, --cert and --listen are needed');

const config = new KubeConfig();
config.loadFromFile(kubeconfig);
const core = config.makeApiClient(CoreV1Api);
let millicores = 0;
createInterface({ input: process.stdin })
  .on('line', (line) => (millicores = Number(line)))
  // Whoever started this has gone.
  .on('close', () => process.exit(0));

async function podMetrics(namespace: string, labelSelector: string): Promise<unknown> {
  const pods = await core.listNamespacedPod({ namespace, labelSelector });
  const timestamp = new Date().toISOString();
  return {
    kind: 'PodMetricsList',
    apiVersion: GROUP_VERSION,
    metadata: {},
    items: pods.items
      .filter(({ status }) => status?.phase === 'Running')
      .map(({ metadata, spec }) => ({
        metadata: { name: metadata?.name, namespace, labels: metadata?.labels },
        timestamp,
        window: '1s',
        containers: (spec?.containers ?? []).map(({ name }) => ({
          name,
          usage: { cpu: `${millicores}m`, memory: '1Mi' },
        })),
      })),
  };
}

async function answer(url: URL): Promise<{ readonly code: number; readonly body: unknown }> {
  const namespaced = /^\/apis\/metrics\.k8s\.io\/v1beta1\/namespaces\/([^/]+)\/pods$/.exec(url.pathname);
  if (namespaced?.[1] !== undefined)
    return { code: 200, body: await podMetrics(namespaced[1], url.searchParams.get('labelSelector') ?? '') };
  if (url.pathname === `/apis/${GROUP_VERSION}`) {
    const resources = [
      { name: 'pods', singularName: '', namespaced: true, kind: 'PodMetrics', verbs: ['get', 'list'] },
    ];
    return {
      code: 200,
      body: { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: GROUP_VERSION, resources },
    };
  }
  return {
    code: 404,
    body: { kind: 'Status', apiVersion: 'v1', status: 'Failure', reason: 'NotFound', code: 404 },
  };
}

const server = createServer({ key: readFileSync(key), cert: readFileSync(cert) }, (request, response) => {
  void answer(new URL(request.url ?? '/', 'https://metrics'))
    .catch((error: unknown) => ({ code: 500, body: { kind: 'Status', message: String(error) } }))
    .then(({ code, body }) =>
      response.writeHead(code, { 'content-type': 'application/json' }).end(JSON.stringify(body)),
    );
});
const { hostname, port } = new URL(`tcp://${listen}`);
server.listen(Number(port), hostname, () => console.log('listening'));
