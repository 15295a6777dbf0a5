import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { LocalProcess } from '../../../local/localise.ts';
import { GroupFailed, ProcessGroup, type GroupObserver } from '../../../local/process-group.ts';
import { freePorts } from '../../../local/ports.ts';
import { eventually, isAlive } from './eventually.ts';

let directory: string;
const groups: ProcessGroup[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'internvl-group-'));
});

afterEach(async () => {
  for (const group of groups.splice(0)) {
    group.kill();
    await group.ended.catch(() => {});
  }
  await rm(directory, { recursive: true, force: true });
});

function stub(name: string, ...args: string[]): LocalProcess {
  return { name, program: 'test/integration/cli/stub-process.ts', args, env: {}, grpc: '', metrics: '' };
}

function run(processes: LocalProcess[], maxRestarts = 5) {
  const seen = {
    starts: [] as ReadonlyMap<string, number>[],
    lines: [] as string[],
    restarts: [] as string[],
  };
  const observer: GroupObserver = {
    started: (_, pids) => seen.starts.push(pids),
    line: (process, line) => seen.lines.push(`${process.name}: ${line}`),
    restarting: (_, why, delayMs) => seen.restarts.push(`${why}, ${delayMs}`),
  };
  const budget = { maxRestarts, stableMs: 600_000 };
  const liveness = { intervalMs: 20, timeoutMs: 500, failures: 2 };
  const options = { logDirectory: directory, budget, liveness, observer };
  const group = new ProcessGroup({ name: 'group', processes }, options);
  groups.push(group);
  const serving = () =>
    eventually(
      'all to serve',
      () => seen.lines.filter((l) => l.includes('serving')).length >= processes.length,
    );
  return { group, seen, serving };
}

describe('ProcessGroup', () => {
  it('starts all processes again when one is killed', async () => {
    const { group, seen, serving } = run([stub('rank-0'), stub('rank-1')]);
    await serving();
    const before = group.pids;
    process.kill(before.get('rank-1') ?? 0, 'SIGKILL');
    await eventually('a second start', () => seen.starts.length === 2);
    const after = group.pids;
    expect(after.get('rank-0')).not.toBe(before.get('rank-0'));
    expect(after.get('rank-1')).not.toBe(before.get('rank-1'));
    for (const pid of before.values()) expect(isAlive(pid)).toBe(false);
    expect(seen.restarts).toEqual(['rank-1 was killed by SIGKILL, 500']);
    await group.stop(5000);
    for (const pid of after.values()) expect(isAlive(pid)).toBe(false);
  });

  it('starts all processes again when one stops answering', async () => {
    const [port] = await freePorts(1);
    const metrics = `127.0.0.1:${port}`;
    const hung = { ...stub('rank-0', '--metrics-listen', metrics), metrics };
    const { group, seen, serving } = run([hung, stub('rank-1')]);
    await serving();
    await eventually('a first answer', () => seen.lines.includes('rank-0: asked'));
    const before = group.pids;
    process.kill(before.get('rank-0') ?? 0, 'SIGSTOP');
    await eventually('a second start', () => seen.starts.length === 2);
    expect(seen.restarts).toEqual(['rank-0 was killed by SIGKILL, 500']);
    for (const pid of before.values()) expect(isAlive(pid)).toBe(false);
  });

  it('gives up when the budget is spent, with the last lines of the process', async () => {
    const { group, seen } = run([stub('rank-0'), stub('rank-1', '--say', 'out of luck', '--exit', '1')], 1);
    const error = await group.ended.catch((failure: unknown) => failure);
    expect(error).toBeInstanceOf(GroupFailed);
    expect(error).toMatchObject({
      message: 'rank-1 exited with code 1, after 1 restart',
      tail: ['out of luck'],
    });
    expect(seen.starts).toHaveLength(2);
    expect(await readFile(join(directory, 'rank-1.log'), 'utf8')).toBe('out of luck\nout of luck\n');
  });

  it.each([2, 4])('does not start again after exit code %i', async (code) => {
    const { group, seen } = run([stub('rank-0'), stub('rank-1', '--exit', String(code))]);
    await expect(group.ended).rejects.toMatchObject({ exitCode: code, group: 'group' });
    expect(seen.starts).toHaveLength(1);
    for (const pid of group.pids.values()) expect(isAlive(pid)).toBe(false);
  });

  it('kills what does not end in time', async () => {
    const { group, serving } = run([stub('rank-0', '--deaf'), stub('rank-1')]);
    await serving();
    const { pids } = group;
    await group.stop(200);
    for (const pid of pids.values()) expect(isAlive(pid)).toBe(false);
    await group.ended;
  });

  it('stops while it waits to start again', async () => {
    const file = join(directory, 'go');
    const { group, seen, serving } = run([stub('rank-0', '--exit', '1', '--after-file', file)]);
    await serving();
    await writeFile(file, '');
    await eventually('the restart to be planned', () => seen.restarts.length === 1);
    await group.stop(1000);
    await group.ended;
    expect(seen.starts).toHaveLength(1);
  });

  it('leaves no process behind when its parent is killed', async () => {
    const script = `
      import { ProcessGroup } from './local/process-group.ts';
      const stub = (name) => ({ name, program: 'test/integration/cli/stub-process.ts', args: ['--deaf'], env: {}, grpc: '', metrics: '' });
      const observer = { started: () => {}, line: () => console.log('up'), restarting: () => {} };
      const group = new ProcessGroup({ name: 'g', processes: [stub('a'), stub('b')] },
        { logDirectory: ${JSON.stringify(directory)}, budget: { maxRestarts: 0, stableMs: 1 }, observer });
      console.log(JSON.stringify([...group.pids.values()]));`;
    const parent = spawn(process.execPath, ['--input-type=module', '--eval', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    parent.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    await eventually(
      'both children to be up',
      () => output.split('\n').filter((line) => line === 'up').length === 2,
    );
    const pids = JSON.parse(output.split('\n')[0] ?? '[]') as number[];
    expect(pids).toHaveLength(2);
    parent.kill('SIGKILL');
    await eventually('the children to end', () => pids.every((pid) => !isAlive(pid)));
  });
});
