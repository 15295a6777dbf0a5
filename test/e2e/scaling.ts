// Scaling by hand and by an autoscaler.

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { ROOT } from './lab.ts';
import { condition, identities, NAME, NAMESPACE } from './demo.ts';
import type { World } from './world.ts';

const METRICS_ADDRESS = '172.30.0.1';
const METRICS_PORT = 8443;

/** 2 -> 1 -> 3 -> 0 -> 1 with `kubectl scale`; requests that come while there is no replica wait for the next one. */
export async function scaleByHand(world: World, mark: string): Promise<void> {
  const { demo } = world;
  await demo.scale(1);
  await demo.ready(1);
  const one = identities(await demo.pods());
  expect(one).toHaveLength(2);

  await demo.scale(3);
  const three = await demo.ready(3);
  expect(three.status?.ready).toBe('3/3');
  const pods = await demo.pods();
  expect(pods).toHaveLength(6);
  // The one that was there is still the same.
  expect(identities(pods)).toEqual(expect.arrayContaining(one));

  await demo.scale(0);
  await demo.untilPods('no rank pods', (left) => left.length === 0);
  const none = await demo.ready(0);
  expect(none.status?.ready).toBe('0/0');
  expect(condition(none, 'Ready')?.message).not.toBe('');
  expect((await demo.columns())['READY']).toBe('0/0');

  await demo.scale(1);
  await demo.ready(1);
  await world.expectNoFailure(mark);
}

/** An autoscaler that sees busy ranks adds a replica, and takes it away when they are idle; it must count groups, not pods. */
export async function scaleByAutoscaler(world: World, mark: string): Promise<void> {
  const { lab, kubernetes, demo, directory } = world;
  const [key, cert] = [join(directory, 'metrics.key'), join(directory, 'metrics.crt')];
  await lab.run('openssl', [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-days',
    '2',
    '-subj',
    '/CN=metrics',
    '-keyout',
    key,
    '-out',
    cert,
  ]);
  const server = lab.start(process.execPath, [
    join(ROOT, 'test/support/metrics-api.ts'),
    '--kubeconfig',
    lab.kubeconfig,
    '--key',
    key,
    '--cert',
    cert,
    '--listen',
    `${METRICS_ADDRESS}:${METRICS_PORT}`,
  ]);
  let log = '';
  server.stderr?.on('data', (chunk: Buffer) => (log += chunk.toString()));
  try {
    server.stdin?.write('50\n');
    await kubernetes.apply(...metricsService(), autoscaler());
    await kubernetes.kubectl(
      'wait',
      'apiservice/v1beta1.metrics.k8s.io',
      '--for=condition=Available',
      '--timeout=30s',
    );
    // Half of 100m: exactly the target, one replica stays.
    await kubernetes.kubectl('wait', `hpa/${NAME}`, '--for=condition=ScalingActive', '--timeout=60s');
    expect((await demo.read()).spec.replicas).toBe(1);

    server.stdin?.write('75\n');
    // 150 % of the target of one replica: two. Counted over the pods of both ranks it would be three.
    const scaled = await demo.until('the autoscaler to want more', ({ spec }) => spec.replicas > 1 && spec);
    expect(scaled.replicas).toBe(2);
    // What the two have to do between them is their target: as much as before on each would be a reason for a third.
    server.stdin?.write('50\n');
    await demo.ready(2);
    expect(await demo.pods()).toHaveLength(4);

    server.stdin?.write('5\n');
    const one = await demo.ready(1);
    expect(one.spec.replicas).toBe(1);
    await demo.untilPods('two rank pods', (pods) => pods.length === 2);
    const seen = await kubernetes.kubectl('describe', `hpa/${NAME}`);
    expect(seen).toContain('SuccessfulRescale');
  } finally {
    await writeFile(join(directory, 'metrics.log'), log);
    await kubernetes.kubectl('delete', `hpa/${NAME}`, '--ignore-not-found');
    // Kubernetes asks every group for what it has: one that does not answer would hold up its garbage collector.
    await kubernetes.kubectl('delete', 'apiservice/v1beta1.metrics.k8s.io', '--ignore-not-found');
    await kubernetes.kubectl('delete', '-n', 'kube-system', 'service/metrics', '--ignore-not-found');
    await kubernetes.kubectl('delete', '-n', 'kube-system', 'endpointslice/metrics', '--ignore-not-found');
    lab.kill(server);
  }
  await demo.scale(2);
  await demo.ready(2);
  await world.expectNoFailure(mark);
}

function autoscaler(): unknown {
  return {
    apiVersion: 'autoscaling/v2',
    kind: 'HorizontalPodAutoscaler',
    metadata: { name: NAME, namespace: NAMESPACE },
    spec: {
      scaleTargetRef: { apiVersion: 'internvl.dev/v1alpha1', kind: 'InternVLDeployment', name: NAME },
      minReplicas: 1,
      maxReplicas: 4,
      metrics: [
        {
          type: 'Resource',
          resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 50 } },
        },
      ],
      behavior: { scaleUp: { stabilizationWindowSeconds: 0 }, scaleDown: { stabilizationWindowSeconds: 0 } },
    },
  };
}

function metricsService(): unknown[] {
  const name = 'metrics';
  const namespace = 'kube-system';
  return [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, namespace },
      spec: { ports: [{ name: 'https', port: 443, targetPort: METRICS_PORT }] },
    },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name, namespace, labels: { 'kubernetes.io/service-name': name } },
      addressType: 'IPv4',
      ports: [{ name: 'https', port: METRICS_PORT, protocol: 'TCP' }],
      endpoints: [{ addresses: [METRICS_ADDRESS], conditions: { ready: true } }],
    },
    {
      apiVersion: 'apiregistration.k8s.io/v1',
      kind: 'APIService',
      metadata: { name: 'v1beta1.metrics.k8s.io' },
      spec: {
        group: 'metrics.k8s.io',
        version: 'v1beta1',
        insecureSkipTLSVerify: true,
        groupPriorityMinimum: 100,
        versionPriority: 100,
        service: { name, namespace },
      },
    },
  ];
}
