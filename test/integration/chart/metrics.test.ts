// Dashboards and alerts name only series that the programs really have, with labels that they really carry.

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { OperatorMetrics } from '../../../operator/metrics.ts';
import { alertRules, dashboardQueries, seriesOf, type NamedQuery } from '../../support/chart-series.ts';
import { FIXTURES, request, Served } from '../../support/served.ts';

/** Labels that a scrape adds: the pod, and the pod's labels that the chart's PodMonitor copies. */
const TARGET_LABELS = ['namespace', 'pod', 'instance', 'job', 'container'];
const POD_LABELS = [
  'internvl_dev_deployment',
  'internvl_dev_group',
  'internvl_dev_rank',
  'internvl_dev_revision',
];

let served: Served;
/** Label names by series, over all processes. */
const series = new Map<string, Set<string>>();
let queries: readonly NamedQuery[];

beforeAll(async () => {
  served = await Served.start({ checkpoint: 'small-tp', replicas: 1, tensorParallelSize: 2 });
  const question = request({ text: 'a', sampling: { maxTokens: 4, ignoreEos: true } });
  const picture = await readFile(`${FIXTURES}images/p1_shapes.png`);
  await served.once(question);
  await served.once(request({ text: 'b', pictures: [picture], sampling: { maxTokens: 2, ignoreEos: true } }));
  for (const name of ['router', ...served.replicas.flat()]) {
    const address = await served.flag(name, '--metrics-listen');
    note(await (await fetch(`http://${address}/metrics`)).text());
  }
  note(await operatorRegistry().metrics());
  queries = [
    ...(await alertRules()).map(({ alert, expr }) => ({ place: alert, expr })),
    ...(await dashboardQueries()),
  ];
});

afterAll(async () => {
  await served.stop();
});

describe('series of the chart', () => {
  it('has queries to check', () => {
    expect(queries.length).toBeGreaterThan(40);
    expect(new Set(queries.flatMap(({ expr }) => seriesOf(expr))).size).toBeGreaterThan(25);
  });

  it('exist, each of them', () => {
    const missing = queries.flatMap(({ place, expr }) =>
      seriesOf(expr)
        .filter((name) => !series.has(name))
        .map((name) => `${place}: ${name}`),
    );
    expect(missing).toEqual([]);
  });

  it('carry the labels by which they are selected and grouped', () => {
    const unknown: string[] = [];
    for (const { place, expr } of queries) {
      for (const [name, labels] of selectors(expr)) {
        const known = [...(series.get(name) ?? []), ...TARGET_LABELS, ...POD_LABELS];
        for (const label of labels) if (!known.includes(label)) unknown.push(`${place}: ${name}{${label}}`);
      }
    }
    expect(unknown).toEqual([]);
  });

  it('have a runbook section for every alert', async () => {
    const text = await readFile(
      fileURLToPath(new URL('../../../docs/operations.md', import.meta.url)),
      'utf8',
    );
    const anchors = [...text.matchAll(/^#+ (.*)$/gm)].map(([, title = '']) =>
      title
        .toLowerCase()
        .replaceAll(/[^\w -]/g, '')
        .replaceAll(' ', '-'),
    );
    for (const { alert, annotations, labels } of await alertRules()) {
      expect(annotations['runbook_url'], alert).toBe(`RUNBOOK#${alert.toLowerCase()}`);
      expect(anchors, alert).toContain(alert.toLowerCase());
      expect(['page', 'ticket'], alert).toContain(labels['severity']);
    }
  });
});

/** Label names in the selectors of a query, by series. */
function selectors(expr: string): [name: string, labels: string[]][] {
  return [...expr.matchAll(/([a-zA-Z_:][\w:]*)\{([^}]*)\}/g)].map(([, name = '', inside = '']) => [
    name,
    [...inside.matchAll(/(\w+)\s*(?:=~|!~|!=|=)\s*"/g)].map(([, label = '']) => label),
  ]);
}

function note(exposition: string): void {
  for (const line of exposition.split('\n')) {
    const [, name, labels = ''] = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? /.exec(line) ?? [];
    if (name === undefined) continue;
    const known = series.get(name) ?? new Set<string>();
    for (const [, label = ''] of labels.matchAll(/(\w+)="/g)) known.add(label);
    series.set(name, known);
  }
}

/** The operator's metrics after one of each thing that it counts. */
function operatorRegistry(): OperatorMetrics['registry'] {
  const resource = { apiVersion: 'v1', kind: 'Pod', plural: 'pods', namespaced: true };
  const metrics = new OperatorMetrics({
    workers: 1,
    leaseName: 'internvl-operator',
    source: () => ({
      statuses: () => [],
      queueDepth: 0,
      unfinishedWorkSeconds: 0,
      longestRunningSeconds: 0,
      synced: ['pods'],
      unsynced: ['nodes'],
    }),
  });
  metrics.leading(true);
  metrics.onRequest('GET', resource, 200, 0.01);
  metrics.controller.reconciled?.('success', 0.01);
  metrics.queue.queued?.(0.01);
  const reflector = metrics.reflector(resource);
  reflector.listed?.('ok', 1, 0.01);
  reflector.watched?.('ended');
  return metrics.registry;
}
