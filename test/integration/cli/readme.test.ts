// The README's commands, as they stand there, against the demo deployment that it starts.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from './eventually.ts';
import { RunningCli, runCli } from './run-cli.ts';

const PORT = '50051';
const readme = await readFile(new URL('../../../README.md', import.meta.url), 'utf8');
const commands = [...readme.matchAll(/^internvl (.*?)(?: +#.*)?$/gm)].map(([, args]) => words(args ?? ''));

/** Splits a command line as a shell does, single quotes included. */
function words(line: string): string[] {
  return [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '');
}

describe('the commands of the README', () => {
  let folder: string;
  let up: RunningCli;
  let address: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'internvl-readme-'));
    const readyFile = join(folder, 'ready.json');
    const [start] = commands.filter(([command]) => command === 'up');
    if (start === undefined) throw new Error('the README starts nothing with `internvl up`');
    // Any free port: the one that the README names may be taken on a machine where tests run.
    const args = start.map((word) => (word === PORT ? '0' : word));
    up = new RunningCli([...args, '--ready-file', readyFile]);
    address = await eventually('the deployment to be ready', async () => {
      if (up.child.exitCode !== null) throw new Error(`internvl up ended: ${up.stderr}`);
      const text = await readFile(readyFile, 'utf8').catch(() => undefined);
      return text === undefined ? undefined : (JSON.parse(text) as { grpc: string }).grpc;
    });
  });

  afterAll(async () => {
    up.child.kill('SIGTERM');
    expect((await up.ended).code).toBe(0);
    await rm(folder, { recursive: true, force: true });
  });

  it.each(commands.filter(([command]) => command !== 'up').map((args) => [args.join(' '), args] as const))(
    'internvl %s',
    async (_, args) => {
      const replaced = args.map((word) => (word === `localhost:${PORT}` ? address : word));
      const { code, stdout, stderr } = await runCli(replaced, 'How many shapes are there?\n');
      expect(code, stderr).toBe(0);
      expect(stdout.trim()).not.toBe('');
    },
  );
});
