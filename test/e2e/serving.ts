// Helm, kubectl apply, and right answers through the Service, from inside and outside.

import { expect } from 'vitest';
import { condition, DEPLOYMENT, nodesOfGroups, type Pod } from './demo.ts';
import type { ApiObject } from './kubernetes.ts';
import { clusterCommands } from './readme.ts';
import { QUESTIONS, SERVICE, type World } from './world.ts';

export const SYSTEM = 'internvl-system';
export const RELEASE = 'internvl-operator';
export const OPERATOR_PODS = `/api/v1/namespaces/${SYSTEM}/pods?labelSelector=app.kubernetes.io/name%3D${RELEASE}`;

/** The operator's pods that are not being deleted. */
export async function operatorPods({ kubernetes }: World): Promise<readonly Pod[]> {
  const pods = await kubernetes.list<Pod>(OPERATOR_PODS);
  return pods.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
}

interface Lease extends ApiObject {
  readonly spec: { readonly holderIdentity?: string; readonly leaseTransitions?: number };
}

/** The operator that leads: its pod, its process, which is another one after a restart in the same pod, and how often the lead has changed. */
export interface Leader {
  readonly pod: string;
  readonly process: string;
  readonly transitions: number;
}

export async function leader({ kubernetes }: World): Promise<Leader> {
  return await kubernetes.until<Lease, Leader>(
    'a leader',
    `/apis/coordination.k8s.io/v1/namespaces/${SYSTEM}/leases`,
    ([lease]) => {
      const { holderIdentity = '', leaseTransitions = 0 } = lease?.spec ?? {};
      const [pod = '', process = ''] = holderIdentity.split('_');
      return pod !== '' && { pod, process, transitions: leaseTransitions };
    },
  );
}

/** The README's helm line: two operators that are ready, one of which leads. */
export async function install(world: World): Promise<void> {
  const { install: lines } = await clusterCommands();
  await world.shell(lines);
  const pods = await operatorPods(world);
  expect(pods).toHaveLength(2);
  for (const { status } of pods)
    expect(status?.conditions).toContainEqual(expect.objectContaining({ type: 'Ready', status: 'True' }));
  expect(pods.map(({ metadata }) => metadata.name)).toContain((await leader(world)).pod);
}

/** The README's kubectl lines, to a deployment whose status says that it is ready, and how it got there. */
export async function deploy(world: World): Promise<void> {
  const { deploy: lines } = await clusterCommands();
  const shown = await world.shell(lines);
  expect(shown).toContain('condition met');
  const deployment = await world.demo.ready(2);
  const { status } = deployment;
  expect(status).toMatchObject({ ready: '2/2', replicas: 2, readyReplicas: 2, updatedReplicas: 2 });
  expect(status).toMatchObject({ endpoint: 'demo-router.default.svc:50051' });
  for (const type of ['Ready', 'Available', 'ModelLoaded', 'RouterReady', 'InterconnectVerified'])
    expect(condition(deployment, type), type).toMatchObject({ status: 'True' });
  expect(condition(deployment, 'InterconnectVerified')).toMatchObject({ reason: 'NotApplicable' });
  expect(condition(deployment, 'Degraded')).toMatchObject({ status: 'False' });
  const { groups = [] } = status as { readonly groups?: readonly Record<string, unknown>[] };
  expect(groups).toHaveLength(2);
  for (const group of groups)
    expect(group).toMatchObject({ ready: true, coldStart: expect.any(Object) as unknown });
  expect(await world.demo.columns()).toMatchObject({
    NAME: 'demo',
    READY: '2/2',
    MODEL: 'pvc://demo-checkpoints/demo-model',
    TP: '2',
  });
  // A group's ranks stand together on one node.
  const nodes = nodesOfGroups(await world.demo.pods());
  expect(nodes.size).toBe(2);
  for (const [group, names] of nodes) expect([...names], group).toHaveLength(1);
}

/** grpcurl and our client, from the lab's network and from pods; the README's last lines through a forwarded port. */
export async function answers(world: World): Promise<void> {
  const { ask } = await clusterCommands();
  expect(await world.shell(ask)).toContain('Four.');
  const [{ text, answer }] = QUESTIONS as [(typeof QUESTIONS)[0]];
  const client = ['generate', '--server', SERVICE, '--prompt', text, '--json', '--image'];
  const outside = await world.shell(
    `internvl ${client.map((word) => `'${word}'`).join(' ')} examples/pictures/shapes.png`,
  );
  expect(JSON.parse(outside)).toMatchObject({ text: answer, finishReason: 'stop' });

  const data = (await world.picture()).toString('base64');
  const request = JSON.stringify({
    messages: [{ role: 'ROLE_USER', parts: [{ image: { data } }, { text }] }],
  });
  const call = ['-plaintext', '-d', '@', SERVICE, 'internvl.v1.Inference/GenerateOnce'];
  const said = await world.lab.run('grpcurl', call, { input: request });
  expect(JSON.parse(said)).toMatchObject({ text: answer });

  const { kubernetes } = world;
  const operator = await operatorPods(world);
  const image = operator[0]?.spec?.containers[0]?.image;
  const grpcurl = (await world.lab.run('bash', ['-c', 'command -v grpcurl'])).trim();
  await kubernetes.apply(
    {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'questions', namespace: 'default' },
      binaryData: { 'shapes.png': data, 'request.json': Buffer.from(request).toString('base64') },
    },
    clientPod('client', {
      image,
      command: ['internvl', ...client, '/questions/shapes.png'],
      volumeMounts: [{ name: 'questions', mountPath: '/questions' }],
    }),
    clientPod(
      'grpcurl',
      {
        image: 'localhost/box:1',
        command: ['/bin/sh', '-c', `exec /bin/grpcurl ${call.join(' ')} </questions/request.json`],
        volumeMounts: [
          { name: 'questions', mountPath: '/questions' },
          { name: 'grpcurl', mountPath: '/bin/grpcurl' },
        ],
      },
      [{ name: 'grpcurl', hostPath: { path: grpcurl, type: 'File' } }],
    ),
  );
  for (const pod of ['client', 'grpcurl']) {
    const phase = await kubernetes.until<Pod, string>(
      `pod ${pod} to end`,
      `/api/v1/namespaces/default/pods?fieldSelector=metadata.name%3D${pod}`,
      ([seen]) => ['Succeeded', 'Failed'].find((end) => end === seen?.status?.phase),
    );
    const log = await kubernetes.kubectl('logs', pod);
    expect(phase, log).toBe('Succeeded');
    expect(JSON.parse(log)).toMatchObject({ text: answer });
  }
  await kubernetes.kubectl('delete', 'pod/client', 'pod/grpcurl', 'configmap/questions', '--wait');
}

function clientPod(
  name: string,
  container: Record<string, unknown>,
  volumes: readonly unknown[] = [],
): unknown {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default' },
    spec: {
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: 1,
      containers: [{ name, ...container }],
      volumes: [{ name: 'questions', configMap: { name: 'questions' } }, ...volumes],
    },
  };
}

/** `kubectl wait`, as a person does. */
export async function waitFor(world: World, what: string, timeoutSeconds = 90): Promise<void> {
  await world.lab.run('kubectl', ['wait', DEPLOYMENT, `--for=${what}`, `--timeout=${timeoutSeconds}s`], {
    timeoutMs: (timeoutSeconds + 5) * 1000,
  });
}
