// The real helm, and the chart as it renders.

import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { CHART } from './chart-series.ts';
import { programsDirectory, run, type CommandResult } from './control-plane.ts';

/** An object of a rendered chart. */
export interface Rendered {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly [field: string]: unknown;
}

/** A program that test/cluster/programs pins. */
export async function toolPath(name: 'helm' | 'promtool' | 'kubeconform' | 'kubectl'): Promise<string> {
  return join(await programsDirectory(), name);
}

/** Runs helm; a refusal is a result, not an error. `kubeconfig` for commands that need a cluster. */
export async function helm(
  args: readonly string[],
  options: { readonly kubeconfig?: string; readonly values?: unknown } = {},
): Promise<CommandResult> {
  const withValues = options.values === undefined ? args : [...args, '--values', '-'];
  return await run(await toolPath('helm'), withValues, {
    ...(options.values !== undefined && { stdin: JSON.stringify(options.values) }),
    // Without one helm would take a developer's own cluster.
    env: { KUBECONFIG: options.kubeconfig ?? '/dev/null' },
  });
}

/** The chart's text with `values`, as release `r` in namespace `operators`; throws with helm's complaint. */
export async function renderText(values: unknown = {}): Promise<string> {
  const { code, stdout, stderr } = await helm(['template', 'r', CHART, '--namespace', 'operators'], {
    values,
  });
  if (code !== 0) throw new Error(stderr);
  return stdout;
}

/** The chart's objects with `values`. */
export async function render(values: unknown = {}): Promise<readonly Rendered[]> {
  return parseAllDocuments(await renderText(values))
    .map((document) => document.toJS() as Rendered | null)
    .filter((object) => object !== null);
}
