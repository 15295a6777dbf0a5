// `internvl up` with the real runtime and router on the smallest checkpoint.
import { chmod, cp, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Endpoints } from '../../../local/ready-file.ts';
import { eventually, isAlive } from './eventually.ts';
import { runCli, RunningCli } from './run-cli.ts';

const TINY = fileURLToPath(new URL('../../fixtures/checkpoints/tiny', import.meta.url));
const START_MS = 60_000;

let directory: string;
const started: RunningCli[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'internvl-up-'));
});

afterEach(async () => {
  for (const cli of started.splice(0)) {
    cli.child.kill('SIGKILL');
    await cli.ended;
  }
  await rm(directory, { recursive: true, force: true });
});

async function manifest(spec: Record<string, unknown>): Promise<string> {
  const file = join(directory, 'deployment.yaml');
  const value = {
    apiVersion: 'internvl.dev/v1alpha1',
    kind: 'InternVLDeployment',
    metadata: { name: 'tiny' },
    spec: { model: { source: `file://${TINY}` }, engine: { dtype: 'float32', maxSequences: 4 }, ...spec },
  };
  await writeFile(file, JSON.stringify(value));
  return file;
}

function up(file: string, ...flags: string[]): RunningCli {
  const cli = new RunningCli(['up', '-f', file, ...flags], { TMPDIR: directory });
  started.push(cli);
  return cli;
}

/** The ready file once `wanted` holds of it; fails with the output when `up` ends before. */
async function readyFile(
  cli: RunningCli,
  file: string,
  wanted: (endpoints: Endpoints) => boolean = () => true,
): Promise<Endpoints> {
  return await eventually(
    'the ready file',
    async () => {
      if (cli.child.exitCode !== null) throw new Error(`up ended:\n${cli.stdout}${cli.stderr}`);
      const text = await readFile(file, 'utf8').catch(() => undefined);
      const endpoints = text === undefined ? undefined : (JSON.parse(text) as Endpoints);
      return endpoints !== undefined && wanted(endpoints) ? endpoints : undefined;
    },
    START_MS,
  );
}

function alive(endpoints: Endpoints): string[] {
  return Object.entries(endpoints.pids).flatMap(([name, pid]) => (isAlive(pid) ? [name] : []));
}

const ask = (endpoints: Endpoints) =>
  runCli([
    'generate',
    '--server',
    endpoints.grpc,
    '--prompt',
    'hi',
    '--max-tokens',
    '4',
    '--temperature',
    '0',
    '--ignore-eos',
    '--json',
  ]);

describe('internvl up', { timeout: 180_000 }, () => {
  it('serves, survives the death of a rank, and leaves nothing behind', async () => {
    const ready = join(directory, 'ready.json');
    const cli = up(
      await manifest({ tensorParallel: { size: 2 } }),
      '--grpc-port',
      '0',
      '--ready-file',
      ready,
    );
    const first = await readyFile(cli, ready);
    expect(alive(first)).toHaveLength(3);
    expect((await fetch(`http://${first.metrics}/metrics`)).status).toBe(200);
    const before = await ask(first);
    expect(before).toMatchObject({ code: 0, stderr: '' });
    const answer = JSON.parse(before.stdout) as { tokenIds: number[]; finishReason: string };
    expect(answer).toMatchObject({ finishReason: 'length', usage: { completionTokens: 4 } });

    const [rank1, pid] = Object.entries(first.pids).find(([name]) => name.endsWith('-1')) ?? ['', 0];
    process.kill(pid, 'SIGKILL');
    const second = await readyFile(cli, ready, ({ pids }) => pids[rank1] !== pid);
    expect(cli.stdout).toContain(`${rank1} was killed by SIGKILL; starting it again`);
    expect(second.grpc).toBe(first.grpc);
    expect(second.pids['router']).toBe(first.pids['router']);
    const after = await ask(second);
    expect((JSON.parse(after.stdout) as { tokenIds: number[] }).tokenIds).toEqual(answer.tokenIds);

    const chat = await runCli(['chat', '--server', second.grpc, '--max-tokens', '3'], 'hi\n/stats\nagain\n');
    expect(chat.code).toBe(0);
    expect(chat.stderr).toContain('3 answered');

    const long = ['--prompt', 'hi', '--max-tokens', '300', '--ignore-eos'];
    const underWay = new RunningCli(['generate', '--server', second.grpc, ...long]);
    await eventually('the first words', () => underWay.stdout !== '');
    cli.child.kill('SIGTERM');
    expect(await underWay.ended).toMatchObject({ code: 0, stderr: '' });
    expect(await cli.ended).toMatchObject({ code: 0, stderr: '' });
    expect(alive(second)).toEqual([]);
    expect(await readdir(directory)).toEqual(['deployment.yaml']);
  });

  it('ends with 4 and names the port when another runs on it', async () => {
    const ready = join(directory, 'ready.json');
    const file = await manifest({});
    const first = up(file, '--grpc-port', '0', '--ready-file', ready);
    const { grpc } = await readyFile(first, ready);
    const second = await runCli(['up', '-f', file, '--grpc-port', grpc.split(':')[1] ?? '']);
    expect(second.code).toBe(4);
    expect(second.stderr).toBe(
      `internvl up: ${grpc} is in use by another process; stop it or choose another --grpc-port [PORT_IN_USE]\n`,
    );
    expect(first.child.exitCode).toBeNull();
  });

  it('takes every process along when it is killed', async () => {
    const ready = join(directory, 'ready.json');
    const cli = up(
      await manifest({ tensorParallel: { size: 2 } }),
      '--grpc-port',
      '0',
      '--ready-file',
      ready,
    );
    const endpoints = await readyFile(cli, ready);
    cli.child.kill('SIGKILL');
    await eventually('all processes to end', () => alive(endpoints).length === 0);
  });

  it('says why a checkpoint cannot be served, and does not try again', async () => {
    const broken = join(directory, 'broken');
    await cp(TINY, broken, { recursive: true });
    const shard = join(broken, 'model-00002-of-00003.safetensors');
    await chmod(shard, 0o644);
    await truncate(shard, 1000);
    const { code, stdout, stderr } = await up(
      await manifest({ model: { source: 'file:broken' } }),
      '--grpc-port',
      '0',
    ).ended;
    expect(code).toBe(1);
    expect(stderr).toContain('model-00002-of-00003.safetensors');
    expect(stderr).toMatch(/its log is .*-0-0\.log/);
    expect(stdout).not.toContain('starting it again');
    expect(/all logs are in (\S+)/.exec(stderr)?.[1]).toContain(directory);
  });

  it('starts a router again that died, on the same port and without touching the ranks', async () => {
    const ready = join(directory, 'ready.json');
    const cli = up(await manifest({}), '--grpc-port', '0', '--ready-file', ready);
    const first = await readyFile(cli, ready);
    const { router = 0, ...ranks } = first.pids;
    process.kill(router, 'SIGKILL');
    const second = await readyFile(cli, ready, ({ pids }) => pids['router'] !== router);
    expect(second.grpc).toBe(first.grpc);
    expect(second.pids).toMatchObject(ranks);
    expect(await ask(second)).toMatchObject({ code: 0, stderr: '' });
  });

  it('can be stopped while it starts', async () => {
    const cli = up(await manifest({}), '--grpc-port', '0');
    await eventually('the start', () => cli.stdout.includes('starting'));
    cli.child.kill('SIGINT');
    const { code, stdout } = await cli.ended;
    expect(code).toBe(0);
    expect(stdout).toContain('tiny: stopped');
  });

  it('serves on with the replicas that are left when one may not be started again, and ends with the last', async () => {
    const ready = join(directory, 'ready.json');
    const file = await manifest({ replicas: 2, rollout: { maxGroupRestarts: 0 } });
    const cli = up(file, '--grpc-port', '0', '--ready-file', ready);
    const endpoints = await readyFile(cli, ready);
    const [first = 0, second = 0] = Object.entries(endpoints.pids).flatMap(([name, pid]) =>
      name === 'router' ? [] : [pid],
    );
    process.kill(first, 'SIGKILL');
    await eventually('the notice', () => cli.stdout.includes('-0 stays down'));
    expect(await ask(endpoints)).toMatchObject({ code: 0, stderr: '' });
    process.kill(second, 'SIGKILL');
    const { code, stderr } = await cli.ended;
    expect(code).toBe(1);
    expect(stderr).toMatch(/-1-0 was killed by SIGKILL/);
    expect(alive(endpoints)).toEqual([]);
  });
});

describe('internvl up refuses', () => {
  it.each([
    [
      'an unknown field',
      { replica: 2 },
      /deployment\.yaml:1:\d+: spec\.replica: unknown field; allowed here: .*replicas/,
    ],
    ['a wrong type', { replicas: 'two' }, /spec\.replicas: found "two"; must be an integer/],
    ['a size that cannot be', { tensorParallel: { size: 3 } }, /found 3; allowed: 1, 2, 4, 8/],
    [
      'a model that is not there',
      { model: { source: 'file:nowhere' } },
      /there is no directory \/.*\/nowhere/,
    ],
    ['a directory without a model', { model: { source: 'file:.' } }, /has no config\.json/],
    [
      'a source that is elsewhere',
      { model: { source: 'hf://owner/name' } },
      /running locally needs a directory of this machine/,
    ],
  ])('%s', async (_, spec, message) => {
    const { code, stdout, stderr } = await runCli(['up', '-f', await manifest(spec)]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(message);
  });

  it('a file that is not there', async () => {
    expect(await runCli(['up', '-f', '/nowhere.yaml'])).toMatchObject({
      code: 2,
      stderr: 'internvl up: /nowhere.yaml: there is no such file\n',
    });
  });
});

describe('internvl generate --model', { timeout: 120_000 }, () => {
  it('runs the model for one prompt and leaves nothing behind', async () => {
    const env = { TMPDIR: directory };
    const flags = [
      '--prompt',
      'hi',
      '--max-tokens',
      '3',
      '--temperature',
      '0',
      '--dtype',
      'float32',
      '--json',
    ];
    const one = await runCli(['generate', '--model', TINY, ...flags], '', env);
    expect(one).toMatchObject({ code: 0, stderr: '' });
    const two = await runCli(['generate', '--model', TINY, '--tensor-parallel-size', '2', ...flags], '', env);
    expect(two).toMatchObject({ code: 0, stderr: '' });
    const ids = ({ stdout }: { stdout: string }) => (JSON.parse(stdout) as { tokenIds: number[] }).tokenIds;
    expect(ids(two)).toEqual(ids(one));
    expect(await readdir(directory)).toEqual([]);
  });
});
