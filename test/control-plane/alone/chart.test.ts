// The chart on a real API server: valid objects, enough rights and no more, installed, upgraded and taken away by the real helm.

import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { CHART } from '../../support/chart-series.ts';
import { controlPlane, run, type ControlPlane } from '../../support/control-plane.ts';
import { helm, renderText, toolPath } from '../../support/helm.ts';
import { eventually } from '../../support/served.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const CRD = 'internvldeployments.internvl.dev';

let cluster: ControlPlane;
let directory: string;

beforeAll(async () => {
  cluster = await controlPlane();
  directory = await mkdtemp(join(tmpdir(), 'internvl-chart-'));
});

afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
  // As other tests had it.
  await kubectl('apply', '--server-side', '--force-conflicts', '-f', `${ROOT}crds/`);
});

async function kubectl(...args: readonly string[]): Promise<string> {
  return await kubectlWith(undefined, ...args);
}

async function kubectlWith(stdin: string | undefined, ...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await cluster.kubectl(args, stdin);
  if (code !== 0) throw new Error(`kubectl ${args.join(' ')}: ${stderr}`);
  return stdout.trim();
}

describe('rendered objects', () => {
  it('are taken by the API server, every field known to it', async () => {
    const namespace = await cluster.namespace();
    const watched = await cluster.namespace();
    const text = (
      await renderText({ watchNamespaces: [watched], metrics: { dashboards: { enabled: true } } })
    )
      .replaceAll('namespace: operators', `namespace: ${namespace}`)
      .replaceAll('operators-r-internvl', `${namespace}-r-internvl`);
    const flags = ['--server-side', '--force-conflicts', '--dry-run=server', '--validate=strict'];
    const said = await kubectlWith(text, 'apply', ...flags, '-f', '-');
    expect(said.split('\n')).toHaveLength(12);
  });

  it('pass kubeconform with the schemas of this API server and of our CRD, and a mistake does not', async () => {
    const schemas = join(directory, 'schemas');
    await writeSchemas(schemas);
    const check = async (text: string) =>
      await run(
        await toolPath('kubeconform'),
        [
          '-strict',
          '-summary',
          '-schema-location',
          `${schemas}/{{.Group}}_{{.ResourceAPIVersion}}_{{.ResourceKind}}.json`,
          '-',
        ],
        { stdin: text },
      );
    const good = [
      await renderText({ metrics: { dashboards: { enabled: true } }, watchNamespaces: ['a'] }),
      await readFile(`${ROOT}examples/demo-cluster.yaml`, 'utf8'),
      await readFile(`${ROOT}examples/internvl-40b.yaml`, 'utf8'),
    ].join('\n---\n');
    const { stdout, code } = await check(good);
    expect(stdout).toMatch(/Valid: 1[0-9], Invalid: 0, Errors: 0, Skipped: 0/);
    expect(code).toBe(0);

    const bad = await check(good.replace('maxUnavailable: 1', 'maxUnavailables: 1'));
    expect(bad.stdout).toMatch(/PodDisruptionBudget .*maxUnavailables.*Invalid: 1,/s);
    const worse = await check(good.replace(/^  tensorParallel:/m, '  tensorParallels:'));
    expect(worse.stdout).toMatch(/InternVLDeployment .*tensorParallels/s);
  });
});

describe('helm', () => {
  it('installs, upgrades with the CRD, and uninstalls', async () => {
    const namespace = await cluster.namespace();
    // The strictest profile: pods that break it would not come to be.
    await kubectl('label', 'namespace', namespace, 'pod-security.kubernetes.io/enforce=restricted');
    const chart = join(directory, 'chart');
    await cp(CHART, chart, { recursive: true });
    const release = async (command: 'install' | 'upgrade', values: object = {}) => {
      // The set-up of this run applied the CRD with kubectl; its owner is to be helm.
      const flags = ['--namespace', namespace, '--take-ownership', '--force-conflicts'];
      const result = await helm([command, 'ivl', chart, ...flags], {
        kubeconfig: cluster.kubeconfig,
        values,
      });
      expect(result.stderr).not.toContain('Error');
      expect(result.code).toBe(0);
      return result.stdout;
    };
    const pods = async () => {
      const names = await kubectl('-n', namespace, 'get', 'pods', '-o', 'name');
      return names === '' ? [] : names.split('\n');
    };

    expect(await release('install')).toContain(`runs in namespace ${namespace} and serves all namespaces`);
    await eventually('two operator pods to be admitted', async () =>
      (await pods()).length === 2 ? true : undefined,
    );
    expect(await kubectl('get', 'crd', CRD, '-o', 'jsonpath={.spec.names.categories}')).toBe('["all"]');
    await expectRights(namespace);

    // A later release: another CRD, three operators.
    const file = join(chart, 'files/internvldeployments.yaml');
    const text = await readFile(file, 'utf8');
    await writeFile(file, text.replace('categories: [all]', 'categories: [all, serving]'));
    await release('upgrade', { replicas: 3 });
    expect(await kubectl('get', 'crd', CRD, '-o', 'jsonpath={.spec.names.categories}')).toBe(
      '["all","serving"]',
    );
    await eventually('three operator pods', async () => ((await pods()).length === 3 ? true : undefined));

    const { code } = await helm(['uninstall', 'ivl', '--namespace', namespace], {
      kubeconfig: cluster.kubeconfig,
    });
    expect(code).toBe(0);
    await eventually('the pods to go', async () => ((await pods()).length === 0 ? true : undefined));
    expect(
      await kubectl(
        '-n',
        namespace,
        'get',
        'all,role,rolebinding,pdb,netpol,sa',
        '-l',
        'app.kubernetes.io/instance=ivl',
        '-o',
        'name',
      ),
    ).toBe('');
    expect(
      await kubectl(
        'get',
        'clusterrole,clusterrolebinding',
        '-l',
        'app.kubernetes.io/instance=ivl',
        '-o',
        'name',
      ),
    ).toBe('');
    expect(await kubectl('get', 'crd', CRD, '-o', 'name')).toContain(CRD);
  });
});

/** What the operator's account may do, by the API server's own word. */
async function expectRights(namespace: string): Promise<void> {
  const as = `--as=system:serviceaccount:${namespace}:ivl-internvl-operator`;
  const may = async (...what: readonly string[]) =>
    (await cluster.kubectl(['auth', 'can-i', as, ...what])).stdout.trim();
  for (const what of [
    ['watch', CRD, '--all-namespaces'],
    ['patch', CRD, '--subresource=status', '-n', 'default'],
    ['create', 'pods', '-n', 'default'],
    ['patch', 'pods', '--subresource=status', '-n', 'default'],
    ['list', 'nodes'],
    ['update', 'leases.coordination.k8s.io/ivl-internvl-operator', '-n', namespace],
  ])
    expect(await may(...what), what.join(' ')).toBe('yes');
  for (const what of [
    ['get', 'secrets', '-n', 'default'],
    ['create', 'pods', '--subresource=exec', '-n', 'default'],
    ['patch', 'nodes'],
    ['delete', CRD, '-n', 'default'],
    ['escalate', 'roles.rbac.authorization.k8s.io', '-n', 'default'],
    ['update', 'leases.coordination.k8s.io/another', '-n', namespace],
    ['create', 'leases.coordination.k8s.io', '-n', 'default'],
  ])
    expect(await may(...what), what.join(' ')).toBe('no');

  // The router's rights are a part of the operator's own, so it can give them; more it cannot.
  const role = (resources: readonly string[]) =>
    JSON.stringify({
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata: { name: 'router', namespace },
      rules: [
        { apiGroups: [''], resources, verbs: ['get', 'list', 'watch'] },
        {
          apiGroups: [''],
          resources: ['configmaps'],
          resourceNames: ['demo-routers'],
          verbs: ['get', 'patch'],
        },
      ],
    });
  await kubectlWith(role(['pods']), 'apply', '--server-side', as, '-f', '-');
  const refused = await cluster.kubectl(['apply', '--server-side', as, '-f', '-'], role(['pods', 'secrets']));
  expect(refused.stderr).toContain('attempting to grant RBAC permissions not currently held');
}

interface Schema {
  readonly properties?: Readonly<Record<string, unknown>>;
  readonly 'x-kubernetes-group-version-kind'?: readonly { group: string; version: string; kind: string }[];
  readonly [field: string]: unknown;
}

/** One JSON schema for each kind that the chart makes, from what the API server publishes (no download), closed against unknown fields. */
async function writeSchemas(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const path of [
    'api/v1',
    'apis/apps/v1',
    'apis/rbac.authorization.k8s.io/v1',
    'apis/policy/v1',
    'apis/networking.k8s.io/v1',
    'apis/apiextensions.k8s.io/v1',
  ]) {
    const { components } = JSON.parse(await kubectl('get', '--raw', `/openapi/v3/${path}`)) as {
      components: { schemas: Record<string, Schema> };
    };
    const schemas = closed(components.schemas) as Record<string, Schema>;
    for (const [name, schema] of Object.entries(schemas))
      for (const { group, version, kind } of schema['x-kubernetes-group-version-kind'] ?? [])
        if (`${group === '' ? 'api' : `apis/${group}`}/${version}` === path)
          await writeFile(
            schemaFile(folder, group, version, kind),
            JSON.stringify({ $ref: `#/components/schemas/${name}`, components: { schemas } }),
          );
  }
  const crd = parse(await readFile(`${ROOT}crds/internvldeployments.yaml`, 'utf8')) as {
    spec: { versions: readonly [{ name: string; schema: { openAPIV3Schema: Schema } }] };
  };
  const [{ name, schema }] = crd.spec.versions;
  const { properties, ...rest } = closed(schema.openAPIV3Schema) as Schema;
  const own = { ...rest, properties: { ...properties, metadata: { type: 'object' } } };
  await writeFile(schemaFile(folder, 'internvl.dev', name, 'InternVLDeployment'), JSON.stringify(own));
}

/** As kubeconform names it: the kind in lower case, and the core group by its version. */
function schemaFile(folder: string, group: string, version: string, kind: string): string {
  return join(folder, `${group || version}_${version}_${kind.toLowerCase()}.json`);
}

/** Objects that list their properties take no others, as the API server's strict validation has it. */
function closed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(closed);
  if (typeof value !== 'object' || value === null) return value;
  const copy = Object.fromEntries(Object.entries(value).map(([key, child]) => [key, closed(child)]));
  // A property may itself be called `properties`: only a schema of an object has both.
  return copy['type'] === 'object' &&
    typeof copy['properties'] === 'object' &&
    copy['additionalProperties'] === undefined
    ? { ...copy, additionalProperties: copy['x-kubernetes-preserve-unknown-fields'] === true }
    : copy;
}
