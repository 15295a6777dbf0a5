// The control plane that these tests stand on does what they take for granted.

import { describe, expect, it } from 'vitest';
import { controlPlane } from '../../support/control-plane.ts';

describe('the control plane', () => {
  it('serves the CRD of this clone', async () => {
    const { kubectl } = await controlPlane();
    const { stdout } = await kubectl(['api-resources', '--api-group=internvl.dev', '-o', 'name']);
    expect(stdout).toBe('internvldeployments.internvl.dev\n');
  });

  it('gives each caller a namespace of its own, in which pods can be created', async () => {
    const { namespace, kubectl } = await controlPlane();
    const [one, other] = await Promise.all([namespace(), namespace()]);
    expect(one).not.toBe(other);
    const { code, stderr } = await kubectl(['-n', one, 'run', 'pod', '--image=localhost/none:1']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  });

  it('reports a refusal as the API server words it', async () => {
    const { namespace, kubectl } = await controlPlane();
    const pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'empty', namespace: await namespace() },
      spec: {},
    };
    const refused = await kubectl(['create', '-f', '-'], JSON.stringify(pod));
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain('spec.containers: Required value');
  });

  it('keeps what was stored when the API server is restarted', async () => {
    const { namespace, kubectl, restartApiServer } = await controlPlane();
    const name = await namespace();
    const uid = ['get', 'namespace', name, '-o', 'jsonpath={.metadata.uid}'];
    const before = await kubectl(uid);
    await restartApiServer();
    expect(await kubectl(uid)).toEqual({ ...before, code: 0 });
  });

  it('runs pods on fake nodes, and leaves readiness gates to who owns them', async () => {
    const { namespace, kubectl } = await controlPlane();
    const name = await namespace();
    const pod = (suffix: string, gates: readonly string[]) => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: `pod-${suffix}`, namespace: name },
      spec: {
        readinessGates: gates.map((conditionType) => ({ conditionType })),
        containers: [
          { name: 'main', image: 'localhost/none:1', resources: { limits: { 'nvidia.com/gpu': '1' } } },
        ],
      },
    });
    for (const object of [pod('plain', []), pod('gated', ['internvl.dev/RouterAcknowledged'])]) {
      expect((await kubectl(['create', '-f', '-'], JSON.stringify(object))).stderr).toBe('');
    }
    const wait = (condition: string, target: string) =>
      kubectl(['-n', name, 'wait', `--for=condition=${condition}`, '--timeout=30s', target]);
    expect((await wait('Ready', 'pod/pod-plain')).stderr).toBe('');
    expect((await wait('ContainersReady', 'pod/pod-gated')).stderr).toBe('');
    expect((await wait('Ready=false', 'pod/pod-gated')).stderr).toBe('');

    const gate = { type: 'internvl.dev/RouterAcknowledged', status: 'True' };
    const patch = JSON.stringify({ status: { conditions: [gate] } });
    const patched = await kubectl([
      '-n',
      name,
      'patch',
      'pod',
      'pod-gated',
      '--subresource=status',
      '-p',
      patch,
    ]);
    expect(patched.stderr).toBe('');
    expect((await wait('Ready', 'pod/pod-gated')).stderr).toBe('');
  });
});
