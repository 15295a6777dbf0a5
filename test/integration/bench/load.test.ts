// The load client against a router in front of a simulated replica, each a process of its own.
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LoadResult } from '../../../bench/load/report.ts';
import { SIMULATION, startReplica, startRouter, stop, type Server } from '../../../bench/processes.ts';

const CLIENT = fileURLToPath(new URL('../../../bench/load/main.ts', import.meta.url));
const servers: Server[] = [];
let directory: string;
let address: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'internvl-load-'));
  servers.push(await startReplica({ ...SIMULATION, stepUs: 2000, maxSequences: 2 }));
  const router = await startRouter(servers, ['--queue-max-requests', '1']);
  servers.push(router);
  address = router.address;
});

afterAll(async () => {
  await Promise.all(servers.map(stop));
  await rm(directory, { recursive: true, force: true });
});

interface Run {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function run(...flags: string[]): Promise<Run> {
  return new Promise((resolve) => {
    const args = [CLIENT, '--server', address, '--warm-up', '0', '--output-tokens', '4', ...flags];
    const child = execFile(process.execPath, args, (_, stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}

describe('bench:load', () => {
  it('measures an open and a closed loop, and writes table, JSON and plot', async () => {
    const [json, plot] = [join(directory, 'load.json'), join(directory, 'load.svg')];
    const goodput = ['--goodput', 'ttft:60000,itl:60000'];
    const mix = ['--mix', 'unique,shared-prefix,shared-image', '--pictures', '0.5'];
    const loads = ['--rate', '10', '--concurrency', '1', '--duration', '1'];
    const { code, stdout, stderr } = await run(...loads, ...goodput, ...mix, '--json', json, '--plot', plot);
    expect({ code, stderr: code === 0 ? '' : stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^10 requests\/s: \d+ asked/m);
    expect(stdout).toMatch(/^1 at a time: \d+ asked/m);
    const { results } = JSON.parse(await readFile(json, 'utf8')) as { results: LoadResult[] };
    expect(results.map(({ load }) => load)).toEqual([
      { kind: 'open', rate: 10 },
      { kind: 'closed', concurrency: 1 },
    ]);
    for (const { requests, answered, errors, ttft, itl, e2e, goodput, usage } of results) {
      expect(requests).toBeGreaterThan(0);
      expect(answered + Object.values(errors).reduce((sum, count) => sum + count, 0)).toBe(requests);
      // Within the limits by far: what is good is what was answered.
      expect(goodput?.share).toBeCloseTo(answered / requests);
      expect(usage.promptTokens).toBeGreaterThan(0);
      // Four tokens, 2 ms a step: no clock makes that shorter.
      expect(itl?.max).toBeGreaterThanOrEqual(1);
      expect(e2e?.p50).toBeGreaterThan(ttft?.p50 ?? Infinity);
    }
    expect(await readFile(plot, 'utf8')).toMatch(/^<svg [\s\S]*<polyline [\s\S]*<\/svg>\n$/);
  });

  it('counts what a full queue refuses by its code', async () => {
    const { code, stdout } = await run('--concurrency', '24', '--duration', '1', '--output-tokens', '64');
    expect(code).toBe(0);
    expect(stdout).toMatch(/failed: \d+ RESOURCE_EXHAUSTED$/m);
  });

  it.each([
    [['--duration', '1'], 2, 'nothing to send: give --rate or --concurrency'],
    [['--rate', '0'], 2, 'it must be above 0'],
    [['--rate', '1', '--goodput', 'speed:1'], 2, 'the names are ttft, itl, tpot, e2e'],
    [['--rate', '1', '--server', '127.0.0.1:1'], 3, 'nothing answers at 127.0.0.1:1'],
  ])('%j ends with %i and says %s', async (flags, code, message) => {
    const result = await run(...flags);
    expect(result.stderr).toContain(message);
    expect(result.code).toBe(code);
  });
});
