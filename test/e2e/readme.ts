// The commands of the README's section on clusters, as they stand there.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ROOT } from './lab.ts';

export interface ClusterCommands {
  /** helm and what comes before. */
  readonly install: string;
  /** From the first kubectl line up to where the deployment is ready. */
  readonly deploy: string;
  /** The rest: a forwarded port and a question. */
  readonly ask: string;
}

/** Throws where the README has no such block. */
export async function clusterCommands(): Promise<ClusterCommands> {
  const readme = await readFile(join(ROOT, 'README.md'), 'utf8');
  const block = /^## On a cluster\n[\s\S]*?^```sh\n([\s\S]*?)^```$/m.exec(readme)?.[1];
  if (block === undefined) throw new Error('the README has no commands under "On a cluster"');
  const lines = block
    .replaceAll('\\\n', ' ')
    .split('\n')
    .filter((line) => line !== '');
  const applied = lines.findIndex((line) => line.startsWith('kubectl apply'));
  const forwarded = lines.findIndex((line) => line.startsWith('kubectl port-forward'));
  if (applied < 1 || forwarded < applied)
    throw new Error(
      `the README's commands are not helm, kubectl apply, kubectl port-forward, in this order:\n${block}`,
    );
  return {
    install: lines.slice(0, applied).join('\n'),
    deploy: lines.slice(applied, forwarded).join('\n'),
    ask: lines.slice(forwarded).join('\n'),
  };
}
