// Preflights over real sockets and real links: ranks without a model whose facts are given, and rank processes with one.

import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { createLogger } from '../../../rpc/log.ts';
import type { RankFacts } from '../../../runtime/preflight/rank-facts.ts';
import { problemsOf } from '../../../runtime/preflight/report.ts';
import type { PreflightReport } from '../../../runtime/preflight/report.ts';
import { runStandalone } from '../../../runtime/preflight/standalone.ts';
import type { StandaloneOptions } from '../../../runtime/preflight/standalone.ts';
import { ONE_GATE_SHUT, podGroup } from '../../support/rank-facts.ts';
import { FIXTURES, freeAddress, startGroup, stopAll } from './rank-processes.ts';
import { connect } from './router-session.ts';

const logger = createLogger({ level: 'error', format: 'json' });

/** All ranks of a group, each with threads and sockets of its own; the report of each. */
async function preflight(facts: readonly RankFacts[]): Promise<PreflightReport[]> {
  const options = (rank: number, leader: string): StandaloneOptions => ({
    rank,
    worldSize: facts.length,
    leader,
    host: undefined,
    extent: 'quick',
    waitMs: 30_000,
    facts: facts[rank]!,
    logger,
  });
  const others: Promise<PreflightReport>[] = [];
  const first = await runStandalone({
    ...options(0, '127.0.0.1:0'),
    onListening: (address) => {
      for (let rank = 1; rank < facts.length; rank += 1) others.push(runStandalone(options(rank, address)));
    },
  });
  return [first, ...(await Promise.all(others))];
}

describe('ranks without a model', () => {
  it('measure each pair and tell all ranks the same', async () => {
    const [first, ...others] = await preflight(podGroup(3));
    expect(others).toEqual([first, first]);
    expect(first).toMatchObject({ worldSize: 3, backend: 'cpu', path: 'TCP', direct: false, gpus: 9 });
    expect(first?.pairs.map((pair) => [pair.first, pair.second, pair.path])).toEqual([
      [0, 1, 'TCP'],
      [0, 2, 'TCP'],
      [1, 2, 'TCP'],
    ]);
    for (const { gigabytesPerSecond, latencyUs } of first?.pairs ?? [])
      expect([gigabytesPerSecond > 0, latencyUs > 0]).toEqual([true, true]);
    expect(first?.allReduce[0]).toMatchObject({ bytes: 14_336 });
    expect(problemsOf(first!)).toEqual([]);
  });

  it.each(ONE_GATE_SHUT)('whose facts differ find %s shut', async (gate, change, found, advice) => {
    const [report] = await preflight(podGroup(2, change));
    const problem = problemsOf(report!).find((text) => text.startsWith(`${gate}: `));
    expect(problem).toMatch(found);
    expect(problem).toMatch(advice);
  });
});

describe('rank processes', () => {
  afterEach(stopAll);
  const MODEL = ['--model', join(FIXTURES, 'checkpoints/small-tp'), '--dtype', 'float32', '--threads', '1'];
  const start = (...flags: string[]) => startGroup(2, [...MODEL, '--max-model-length', '512', ...flags]);

  it('tell the log, Prometheus and routers how they reach each other', async () => {
    const metricsAddress = await freeAddress();
    const ranks = await startGroup(
      2,
      [...MODEL, '--max-model-length', '512', '--interconnect', 'required'],
      (rank) => (rank === 0 ? ['--metrics-listen', metricsAddress] : []),
    );
    await ranks[0]!.log('serving');
    expect(await ranks[0]!.log('preflight')).toMatchObject({ backend: 'cpu', path: 'TCP', direct: false });
    for (const rank of ranks)
      expect(await rank.log('exchange between ranks')).toMatchObject({ path: 'host (TCP)', leftOut: '' });
    const metrics = await (await fetch(`http://${metricsAddress}/metrics`)).text();
    expect(metrics).toMatch(/^internvl_interconnect_bus_bytes_per_second\{path="TCP",bytes="14336"\} \d/m);
    expect(metrics).toMatch(/^internvl_interconnect_all_reduce_seconds\{path="TCP",bytes="14336"\} \d/m);
    expect(metrics).toMatch(/^internvl_interconnect_gate_failed\{gate="SameHost"\} 0$/m);
    const client = connect(ranks[0]!.address);
    const info = await new Promise((resolve, reject) => {
      client.getInfo({}, (err, response) => (err ? reject(err) : resolve(response)));
    });
    client.close();
    expect(info).toMatchObject({
      interconnect: { backend: 'cpu', path: 'TCP', reducedBytes: expect.any(Number), failedGates: [] },
    });
  });

  it('measure nothing when told so', async () => {
    const ranks = await start('--preflight', 'off');
    const { startupMs } = await ranks[0]!.log('serving');
    expect(startupMs).not.toHaveProperty('preflight');
    expect(ranks[0]!.logs.map(({ message }) => message)).not.toContain('preflight');
  });
});
