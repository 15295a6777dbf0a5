// What a person would look at after a failed step, written to files before the cluster goes.

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ROOT } from './lab.ts';
import type { Kubernetes } from './kubernetes.ts';

const VIEWS: Readonly<Record<string, readonly string[]>> = {
  'objects.txt': ['get', 'all,internvldeployments,configmaps,pdb,leases,nodes', '-A', '-o', 'wide'],
  'deployments.yaml': ['get', 'internvldeployments', '-A', '-o', 'yaml'],
  'configmaps.yaml': ['get', 'configmaps', '-n', 'default', '-o', 'yaml'],
  'events.txt': ['get', 'events', '-A', '--sort-by=.lastTimestamp', '-o', 'wide'],
  'pods.txt': ['describe', 'pods', '-A'],
  'pods.yaml': ['get', 'pods', '-A', '-o', 'yaml'],
  'operator.log': [
    'logs',
    '-n',
    'internvl-system',
    '--prefix',
    '--tail=5000',
    '--max-log-requests=20',
    '--ignore-errors',
    '--all-containers',
    '-l',
    'app.kubernetes.io/name=internvl-operator',
  ],
  'routers.log': [
    'logs',
    '-n',
    'default',
    '--prefix',
    '--tail=2000',
    '--max-log-requests=20',
    '--ignore-errors',
    '-l',
    'app.kubernetes.io/component=router',
  ],
  'ranks.log': [
    'logs',
    '-n',
    'default',
    '--prefix',
    '--tail=500',
    '--max-log-requests=50',
    '--ignore-errors',
    '--all-containers',
    '-l',
    'app.kubernetes.io/component=runtime',
  ],
};

/** Writes all of it, and returns where. What cannot be had is told in its file. */
export async function saveEvidence(kubernetes: Kubernetes, step: string): Promise<string> {
  const folder = join(ROOT, 'build/e2e', step.replaceAll(/[^a-z0-9]+/gi, '-'));
  await mkdir(folder, { recursive: true });
  await Promise.all(
    Object.entries(VIEWS).map(async ([file, args]) => {
      const text = await kubernetes.kubectl(...args).catch((error: unknown) => String(error));
      await writeFile(join(folder, file), text);
    }),
  );
  return folder;
}
