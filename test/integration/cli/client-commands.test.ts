import { status } from '@grpc/grpc-js';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { FinishReason } from '../../../gen/proto/internvl/v1/generation.ts';
import { Role, type GenerateRequest } from '../../../gen/proto/internvl/v1/inference.ts';
import { RpcError } from '../../../rpc/status.ts';
import { eventually } from './eventually.ts';
import { runCli, RunningCli } from './run-cli.ts';
import { startScriptedServer, type Script, type ScriptedServer } from './scripted-server.ts';

let directory: string;
let server: ScriptedServer | undefined;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'internvl-cli-'));
});

afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
});

afterEach(() => {
  server?.close();
  server = undefined;
});

async function serve(script: Script): Promise<ScriptedServer> {
  return (server = await startScriptedServer(script));
}

/** Roles and texts of a request, pictures as their sizes. */
function conversation(request: GenerateRequest | undefined): unknown[] {
  const names = Object.fromEntries(Object.entries(Role).map(([name, value]) => [value, name.toLowerCase()]));
  return (request?.messages ?? []).map(({ role, parts }) => [
    names[role],
    ...parts.map(({ part }) => {
      if (part?.$case === 'text') return part.value;
      const source = part?.value.source;
      return source?.$case === 'data' ? source.value.length : source?.value;
    }),
  ]);
}

describe('internvl generate --server', () => {
  it('streams the text', async () => {
    const { address } = await serve(() => ({ words: ['A ', 'blue ', 'heart.'] }));
    expect(await runCli(['generate', '--server', address, '--prompt', 'What?'])).toEqual({
      code: 0,
      stdout: 'A blue heart.\n',
      stderr: '',
    });
  });

  it('prints one JSON object with --json', async () => {
    const { address } = await serve(() => ({ words: ['A', 'B'], reason: FinishReason.LENGTH }));
    const { code, stdout, stderr } = await runCli([
      'generate',
      '--server',
      address,
      '--prompt',
      'x',
      '--logprobs',
      '1',
      '--json',
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const top = (tokenId: number) => ({ tokenId, logprob: -0.25, top: [{ tokenId, logprob: -0.25 }] });
    expect(JSON.parse(stdout)).toEqual({
      text: 'AB',
      tokenIds: [0, 1],
      promptTokenIds: [1, 2, 3],
      finishReason: 'length',
      usage: { promptTokens: 3, imageTokens: 0, cachedTokens: 0, completionTokens: 2 },
      logprobs: [top(0), top(1)],
      timings: { queueMs: 0.5, timeToFirstTokenMs: 1.5, totalMs: 2.5 },
    });
  });

  it('sends every flag', async () => {
    const { address, requests } = await serve(() => ({ words: ['x'] }));
    const picture = join(directory, 'a.bin');
    await writeFile(picture, Buffer.alloc(7));
    const flags = [
      ['--prompt', 'p', '--system', 's', '--image', picture, '--image', picture],
      ['--max-tokens', '5', '--min-tokens', '2', '--temperature', '0.5', '--top-p', '0.9', '--top-k', '3'],
      ['--repetition-penalty', '1.5', '--seed', '18446744073709551615', '--stop', 'a', '--stop', 'b'],
      ['--stop-token-id', '7', '--ignore-eos', '--logprobs', '0'],
    ].flat();
    expect((await runCli(['generate', '--server', address, ...flags])).code).toBe(0);
    expect(conversation(requests[0])).toEqual([
      ['system', 's'],
      ['user', 7, 7, 'p'],
    ]);
    expect(requests[0]?.sampling).toMatchObject({
      maxTokens: 5,
      minTokens: 2,
      temperature: 0.5,
      topK: 3,
      repetitionPenalty: 1.5,
      seed: 18446744073709551615n,
      stop: ['a', 'b'],
      stopTokenIds: [7],
      ignoreEos: true,
    });
    expect(requests[0]?.output).toEqual({ logprobs: 0, promptTokenIds: false });
  });

  it('uploads a large picture before the request that names it', async () => {
    const { address, requests, files } = await serve(() => ({ words: ['x'] }));
    const file = randomBytes(1_000_000);
    const picture = join(directory, 'large.bin');
    await writeFile(picture, file);
    const args = ['generate', '--server', address, '--prompt', 'p', '--image', picture];
    expect((await runCli(args)).code).toBe(0);
    expect(files).toEqual([file]);
    expect(conversation(requests[0])).toEqual([
      ['user', createHash('sha256').update(file).digest('hex'), 'p'],
    ]);
  });

  it('sends a large picture with the request when the server asked does not know it', async () => {
    const error = new RpcError(status.NOT_FOUND, 'IMAGE_NOT_FOUND', 'the picture is not held here');
    const { address, requests } = await serve(({ messages }) =>
      messages[0]?.parts[0]?.part?.$case === 'image' &&
      messages[0].parts[0].part.value.source?.$case === 'hash'
        ? { words: [], error }
        : { words: ['x'] },
    );
    const picture = join(directory, 'large.bin');
    await writeFile(picture, Buffer.alloc(1_000_000));
    const args = ['generate', '--server', address, '--prompt', 'p', '--image', picture];
    expect((await runCli(args)).code).toBe(0);
    expect(requests.map((request) => conversation(request))).toEqual([
      [['user', expect.any(String), 'p']],
      [['user', 1_000_000, 'p']],
    ]);
  });

  it('leaves what was not asked for to the model', async () => {
    const { address, requests } = await serve(() => ({ words: ['x'] }));
    await runCli(['generate', '--server', address, '--prompt', 'p', '--temperature', '0']);
    expect(requests[0]?.sampling).toMatchObject({
      temperature: 0,
      topP: undefined,
      topK: undefined,
      maxTokens: undefined,
    });
  });

  it('reads a conversation from a file', async () => {
    const { address, requests } = await serve(() => ({ words: ['x'] }));
    const file = join(directory, 'messages.json');
    await writeFile(
      file,
      '[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]',
    );
    await runCli(['generate', '--server', address, '--messages', file]);
    expect(conversation(requests[0])).toEqual([
      ['user', 'a'],
      ['assistant', 'b'],
      ['user', 'c'],
    ]);
  });

  it("tells the server's refusal with status and reason", async () => {
    const error = new RpcError(status.INVALID_ARGUMENT, 'EMPTY_MESSAGE', 'messages[0] is empty');
    const { address } = await serve(() => ({ words: [], error }));
    expect(await runCli(['generate', '--server', address, '--prompt', ''])).toEqual({
      code: 1,
      stdout: '',
      stderr: 'internvl generate: messages[0] is empty [INVALID_ARGUMENT, EMPTY_MESSAGE]\n',
    });
    const { code, stdout } = await runCli(['generate', '--server', address, '--prompt', '', '--json']);
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toEqual({
      error: { code: 'INVALID_ARGUMENT', reason: 'EMPTY_MESSAGE', message: 'messages[0] is empty' },
    });
  });

  it('gives up after --timeout', async () => {
    const { address } = await serve(() => ({ words: ['x'], endless: true }));
    const { code, stderr } = await runCli([
      'generate',
      '--server',
      address,
      '--prompt',
      'p',
      '--timeout',
      '0.3',
    ]);
    expect(code).toBe(1);
    expect(stderr).toContain('DEADLINE_EXCEEDED');
  });

  it('cancels the request on Ctrl-C', async () => {
    const scripted = await serve(() => ({ words: ['so far'], endless: true }));
    const cli = new RunningCli(['generate', '--server', scripted.address, '--prompt', 'p']);
    await eventually('the first word', () => cli.stdout === 'so far');
    cli.child.kill('SIGINT');
    expect(await cli.ended).toMatchObject({ code: 130 });
    await eventually('the cancellation', () => scripted.cancelled() === 1);
  });

  it.each([
    ['nothing to answer', [], 2, /give --prompt or --messages/],
    [
      'a missing picture',
      ['--prompt', 'x', '--image', '/nowhere.png'],
      2,
      /--image: there is no file \/nowhere\.png/,
    ],
    ['a directory for a picture', ['--prompt', 'x', '--image', '/'], 2, /is a directory/],
    ['a number that is none', ['--prompt', 'x', '--temperature', 'NaN'], 2, /--temperature/],
    ['an unknown flag', ['--prompt', 'x', '--frob'], 2, /unknown option '--frob'/],
    ['a bad address', ['--prompt', 'x', '--server', 'nowhere'], 2, /--server: 'nowhere' is not HOST:PORT/],
    [
      'a server that is not there',
      ['--prompt', 'x', '--server', '127.0.0.1:1'],
      3,
      /nothing answers at 127\.0\.0\.1:1/,
    ],
    [
      'a model that is not there',
      ['--prompt', 'x', '--model', '/nowhere'],
      2,
      /there is no directory \/nowhere/,
    ],
    [
      'a size that cannot be',
      ['--prompt', 'x', '--model', '/', '--tensor-parallel-size', '3'],
      2,
      /must be 1, 2, 4 or 8/,
    ],
  ])('refuses %s', async (_, flags, code, message) => {
    const result = await runCli(['generate', ...flags]);
    expect(result.code).toBe(code);
    expect(result.stdout).toBe('');
    expect(result.stderr).toMatch(message);
    const json = await runCli(['generate', ...flags, '--json']);
    expect(json.code).toBe(code);
    expect((JSON.parse(json.stdout) as { error: { message: string } }).error.message).toMatch(message);
  });
});

describe('internvl chat, piped', () => {
  const talk = (address: string, lines: string[], ...flags: string[]) =>
    runCli(['chat', '--server', address, ...flags], lines.map((line) => `${line}\n`).join(''));

  it('answers line by line and remembers', async () => {
    let count = 0;
    const { address, requests } = await serve(() => ({ words: ['answer ', String(++count)] }));
    const { code, stdout, stderr } = await talk(address, ['one?', '', 'two?'], '--system', 's');
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: 'answer 1\nanswer 2\n', stderr: '' });
    expect(conversation(requests[1])).toEqual([
      ['system', 's'],
      ['user', 'one?'],
      ['assistant', 'answer 1'],
      ['user', 'two?'],
    ]);
  });

  it('knows its commands', async () => {
    const { address, requests } = await serve(() => ({ words: ['yes'] }));
    const picture = join(directory, 'b.bin');
    await writeFile(picture, Buffer.alloc(9));
    const lines = [
      'one?',
      `/image ${picture}`,
      'two?',
      '/reset',
      'three?',
      '/stats',
      '/help',
      '/quit',
      'never?',
    ];
    const { code, stdout, stderr } = await talk(address, lines);
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'yes\nyes\nyes\n' });
    expect(conversation(requests[1])).toEqual([
      ['user', 9, 'one?'],
      ['assistant', 'yes'],
      ['user', 'two?'],
    ]);
    expect(conversation(requests[2])).toEqual([['user', 9, 'three?']]);
    expect(stderr).toContain('The conversation starts anew.');
    expect(stderr).toContain('3 prompt tokens');
    expect(stderr).toContain('/quit');
  });

  it('goes on after a failed answer, drops nothing, and ends with 1', async () => {
    const error = new RpcError(status.INVALID_ARGUMENT, 'PROMPT_TOO_LONG', 'the prompt has 101 tokens');
    const { address, requests } = await serve(({ messages }) =>
      messages.length === 3 ? { words: [], error } : { words: ['yes'] },
    );
    const { code, stdout, stderr } = await talk(address, [
      'one?',
      'two?',
      '/image /nowhere.png',
      '/reset',
      'three?',
    ]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: 'yes\nyes\n' });
    expect(stderr).toContain('the prompt has 101 tokens [INVALID_ARGUMENT, PROMPT_TOO_LONG]');
    expect(stderr).toContain('no longer fits the context; nothing of it was dropped');
    expect(stderr).toContain('/image: there is no file /nowhere.png');
    expect(conversation(requests[2])).toEqual([['user', 'three?']]);
  });

  it('cancels the answer under way on Ctrl-C and goes on with what was said', async () => {
    const scripted = await serve(({ messages }) =>
      messages.length === 1 ? { words: ['so far'], endless: true } : { words: ['done'] },
    );
    const cli = new RunningCli(['chat', '--server', scripted.address]);
    cli.child.stdin?.write('one?\n');
    await eventually('the first word', () => cli.stdout === 'so far');
    cli.child.kill('SIGINT');
    await eventually('the cancellation', () => scripted.cancelled() === 1);
    cli.child.stdin?.end('two?\n');
    expect(await cli.ended).toMatchObject({ code: 0, stdout: 'so far\ndone\n' });
    expect(conversation(scripted.requests[1])).toEqual([
      ['user', 'one?'],
      ['assistant', 'so far'],
      ['user', 'two?'],
    ]);
  });

  it('leaves on Ctrl-C between answers', async () => {
    const { address } = await serve(() => ({ words: ['yes'] }));
    const cli = new RunningCli(['chat', '--server', address]);
    cli.child.stdin?.write('one?\n');
    await eventually('the answer', () => cli.stdout === 'yes\n');
    cli.child.kill('SIGINT');
    expect((await cli.ended).code).toBe(130);
  });
});

describe('the launcher', () => {
  const launcher = fileURLToPath(new URL('../../../bin/internvl', import.meta.url));

  it('works through a symbolic link, from any folder, without a word on stderr', async () => {
    const link = join(directory, 'internvl');
    await symlink(launcher, link);
    const {
      status: code,
      stdout,
      stderr,
    } = spawnSync(link, ['--version'], { cwd: directory, encoding: 'utf8' });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it.each(['up', 'chat', 'generate', 'tokenize', 'detokenize', 'preprocess', 'inspect'])(
    'explains %s with examples and exit codes',
    async (command) => {
      const { code, stdout } = await runCli([command, '--help']);
      expect(code).toBe(0);
      expect(stdout).toMatch(/Examples?:\n {2}(internvl|printf)/);
      expect(stdout).toContain('Exit codes:');
    },
  );
});
