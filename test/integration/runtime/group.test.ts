import { cp, mkdtemp, rm, unlink } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { afterEach, describe, expect, it } from 'vitest';
import type { EngineClient } from '../../../gen/proto/internvl/engine/v1/engine.ts';
import { FinishReason } from '../../../gen/proto/internvl/v1/generation.ts';
import { parseDetails } from '../../../rpc/status.ts';
import { FIXTURES, freeAddress, startGroup, startRank, startRankAt, stopAll } from './rank-processes.ts';
import type { RankProcess } from './rank-processes.ts';
import { GREEDY, RouterSession, connect, generate, putImage, submit } from './router-session.ts';

interface GoldenRun {
  readonly name: string;
  readonly image: string | null;
  readonly new_ids: number[];
  readonly stable: boolean;
}

interface GoldenPrompt {
  readonly name: string;
  readonly ids: number[];
}

const TINY = join(FIXTURES, 'checkpoints/tiny');
const SMALL_TP = join(FIXTURES, 'checkpoints/small-tp');
const FLAGS = ['--dtype', 'float32', '--max-model-length', '2048', '--threads', '1'];
const FAST_HANG = ['--hang-timeout-ms', '1500'];

function golden(checkpoint: string, file: string): unknown {
  return JSON.parse(readFileSync(join(FIXTURES, 'golden', checkpoint, file), 'utf8'));
}

function goldenRuns(checkpoint: string): { run: GoldenRun; ids: number[] }[] {
  const prompts = new Map(
    (golden(checkpoint, 'prompts.json') as GoldenPrompt[]).map(({ name, ids }) => [name, ids]),
  );
  return (golden(checkpoint, 'generate.json') as GoldenRun[])
    .filter(({ stable }) => stable)
    .map((run) => ({ run, ids: prompts.get(run.name)! }));
}

const clients: EngineClient[] = [];
function dial({ address }: RankProcess): EngineClient {
  const client = connect(address);
  clients.push(client);
  return client;
}

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await stopAll();
});

async function served(
  worldSize: number,
  model: string,
  flags: readonly string[] = [],
): Promise<RankProcess[]> {
  const ranks = await startGroup(worldSize, ['--model', model, ...FLAGS, ...flags]);
  await ranks[0]!.log('serving');
  return ranks;
}

/** Long enough that whatever a test does to it, it does in mid-stream. */
const endless = (handle: number) =>
  submit({
    handle,
    tokenIds: goldenRuns('tiny').find(({ run }) => run.image === null)!.ids,
    sampling: { ...GREEDY, maxTokens: 1500, ignoreEos: true },
  });

async function streaming(ranks: readonly RankProcess[], handles: readonly number[]): Promise<RouterSession> {
  const session = await RouterSession.open(dial(ranks[0]!));
  session.submit(...handles.map(endless));
  await session.until(() => handles.every((handle) => (session.tokens.get(handle)?.length ?? 0) > 2));
  return session;
}

async function expectLost(ranks: readonly RankProcess[], session: RouterSession, handles: readonly number[]) {
  const failure = await session.failure();
  expect(failure.code).toBe(status.UNAVAILABLE);
  expect(parseDetails(failure).reason).toBe('REPLICA_FAILED');
  expect(failure.details).toContain('rank 1');
  for (const handle of handles) {
    expect(session.rejected.get(handle)).toMatchObject({
      code: status.UNAVAILABLE,
      reason: 'REPLICA_FAILED',
    });
  }
  expect(await ranks[0]!.exitCode).toBe(3);
  expect((await ranks[0]!.log('fatal'))['code']).toBe(3);
}

describe('the start of a group', () => {
  it('is divided into phases on every rank', async () => {
    const ranks = await served(2, SMALL_TP);
    const phases = async (rank: number) => (await ranks[rank]!.log('serving'))['startupMs'];
    const onEveryRank = ['join', 'kv_cache', 'open', 'preflight', 'process', 'weights']; // sorted as the log has them
    expect(Object.keys((await phases(0)) as object)).toEqual([...onEveryRank, 'warm_up'].sort());
    expect(Object.keys((await phases(1)) as object)).toEqual(onEveryRank);
    for (const ms of Object.values((await phases(1)) as Record<string, number>))
      expect(ms).toBeGreaterThanOrEqual(0);
  });
});

describe('a tensor-parallel group of processes', () => {
  it('answers as the published model does, alone and in a batch, with pictures sent once', async () => {
    const ranks = await served(2, TINY);
    const client = dial(ranks[0]!);
    const runs = goldenRuns('tiny');
    const text = runs.find(({ run }) => run.image === null)!;
    expect((await generate(client, text.ids, { maxTokens: text.run.new_ids.length })).tokenIds).toEqual(
      text.run.new_ids,
    );

    const session = await RouterSession.open(client);
    const { imageTokenId, imageTokens } = session.welcome!.info!;
    const withOnePicture = runs.filter(
      ({ run, ids }) => run.image !== null && ids.filter((id) => id === imageTokenId).length === imageTokens,
    );
    expect(withOnePicture.length).toBeGreaterThan(1);
    const files = new Map(
      withOnePicture.map(({ run }) => {
        const file = readFileSync(join(FIXTURES, 'images', run.image!));
        return [createHash('sha256').update(file).digest('hex'), file];
      }),
    );
    const batch = [text, ...withOnePicture];
    session.submit(
      ...batch.map(({ run, ids }, index) =>
        submit({
          handle: index + 1,
          tokenIds: ids,
          sampling: { ...GREEDY, maxTokens: run.new_ids.length },
          images:
            run.image === null
              ? []
              : [
                  {
                    hash: createHash('sha256')
                      .update(readFileSync(join(FIXTURES, 'images', run.image)))
                      .digest(),
                    offset: ids.indexOf(imageTokenId),
                    length: imageTokens,
                  },
                ],
        }),
      ),
    );
    await session.until(() => new Set(session.needed).size === files.size);
    for (const file of files.values()) await putImage(client, file);
    await session.until(() => session.done.size === batch.length);
    for (const [index, { run }] of batch.entries()) {
      expect({ name: run.name, ids: session.tokens.get(index + 1) }).toEqual({
        name: run.name,
        ids: run.new_ids,
      });
    }
    // Two copies of a picture that is there: nothing is asked for again.
    const before = session.needed.length;
    const again = withOnePicture[0]!;
    const [hash] = [...files.keys()];
    session.submit(
      submit({
        handle: 99,
        tokenIds: again.ids,
        sampling: { ...GREEDY, maxTokens: 1 },
        images: [
          { hash: Buffer.from(hash!, 'hex'), offset: again.ids.indexOf(imageTokenId), length: imageTokens },
        ],
      }),
    );
    await session.until(() => session.done.has(99));
    expect(session.needed.length).toBe(before);
  });

  it('works with more ranks than cores, and warns', async () => {
    const ranks = await served(4, SMALL_TP);
    const { run, ids } = goldenRuns('small-tp').find(({ run }) => run.image === null)!;
    const answer = await generate(dial(ranks[0]!), ids, { maxTokens: 8 });
    expect(answer.tokenIds).toEqual(run.new_ids.slice(0, 8));
    const { availableParallelism } = await import('node:os');
    const warned = ranks[0]!.logs.some(({ message }) => message === 'more threads than cores');
    expect(warned).toBe(availableParallelism() < 4);
  });

  it('serves fp8 weights on a CPU, and says what would be faster there', async () => {
    const ranks = await served(2, TINY, ['--quantization', 'fp8']);
    const { ids } = goldenRuns('tiny').find(({ run }) => run.image === null)!;
    expect((await generate(dial(ranks[0]!), ids, { maxTokens: 8 })).tokenIds).toHaveLength(8);
    const warned = ranks.map(({ logs }) =>
      logs.filter(({ message }) => message.startsWith('fp8 weights are for GPUs')),
    );
    expect(warned.map((lines) => lines.map(({ level }) => level))).toEqual([['warn'], []]);
  });

  it('frees a cancelled stream and an aborted sequence', async () => {
    const ranks = await served(2, TINY);
    const watcher = await RouterSession.open(dial(ranks[0]!));
    const aborted = await streaming(ranks, [1, 2]);
    aborted.send({ $case: 'abort', value: { handles: [1] } });
    await aborted.until(() => aborted.done.has(1));
    expect(aborted.done.get(1)!.finishReason).toBe(FinishReason.ABORT);
    aborted.cancel();
    // With the other session gone, all credits are the watcher's again.
    const all = watcher.welcome!.load!.credits;
    await watcher.until(() => watcher.load!.credits === all && watcher.load!.running === 0);
    expect(watcher.load!.kvBlocksUsed).toBe(0);
  });

  it('fails as one when a rank is killed in mid-stream', async () => {
    const ranks = await served(2, TINY);
    const session = await streaming(ranks, [1, 2, 3]);
    ranks[1]!.kill('SIGKILL');
    await expectLost(ranks, session, [1, 2, 3]);
  });

  it('fails as one when a rank hangs in mid-stream', async () => {
    const ranks = await served(2, TINY, FAST_HANG);
    const session = await streaming(ranks, [1]);
    ranks[1]!.kill('SIGSTOP');
    await expectLost(ranks, session, [1]);
  });

  it.each(['SIGKILL', 'SIGSTOP'] as const)('lets rank 1 go when rank 0 gets %s', async (signal) => {
    const ranks = await served(2, TINY, FAST_HANG);
    ranks[0]!.kill(signal);
    expect(await ranks[1]!.exitCode).toBe(3);
    expect(JSON.stringify(await ranks[1]!.log('fatal'))).toContain('rank 0');
  });

  it('finishes what runs on SIGTERM, takes no more, and ends every rank with 0', async () => {
    const ranks = await served(2, TINY);
    const session = await RouterSession.open(dial(ranks[0]!));
    const text = goldenRuns('tiny').find(({ run }) => run.image === null)!;
    session.submit(
      submit({ handle: 1, tokenIds: text.ids, sampling: { ...GREEDY, maxTokens: 64, ignoreEos: true } }),
    );
    await session.until(() => (session.tokens.get(1)?.length ?? 0) > 0);
    for (const rank of ranks) rank.kill('SIGTERM');
    await session.until(() => session.messages.some((message) => message?.$case === 'draining'));
    session.submit(submit({ handle: 2, tokenIds: text.ids }));
    await session.until(() => session.rejected.has(2) && session.done.has(1));
    expect(session.rejected.get(2)).toMatchObject({ code: status.UNAVAILABLE, reason: 'DRAINING' });
    expect(session.tokens.get(1)).toHaveLength(64);
    expect(await Promise.all(ranks.map((rank) => rank.exitCode))).toEqual([0, 0]);
  });

  it('waits for ranks that come up late', async () => {
    const addresses = [await freeAddress(), await freeAddress()];
    const group = ['--world-size', '2', '--ranks', addresses.join(','), '--model', TINY, ...FLAGS];
    const first = startRankAt(addresses[0]!, [...group, '--rank', '0']);
    await first.log('listening');
    startRankAt(addresses[1]!, [...group, '--rank', '1']);
    await first.log('serving');
  });
});

describe('a rank that cannot start', () => {
  it('names a missing shard and ends with 2', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'internvl-'));
    try {
      await cp(TINY, directory, { recursive: true });
      await unlink(join(directory, 'model-00002-of-00003.safetensors'));
      const rank = await startRank(['--model', directory]);
      expect(await rank.exitCode).toBe(2);
      expect(JSON.stringify(await rank.log('fatal'))).toContain('model-00002-of-00003.safetensors');
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it('names the field in which two ranks differ and ends with 2', async () => {
    const ranks = await startGroup(2, ['--model', TINY, '--max-model-length', '2048'], (rank) => [
      '--dtype',
      rank === 0 ? 'float32' : 'bfloat16',
    ]);
    expect(await ranks[0]!.exitCode).toBe(2);
    const fatal = JSON.stringify(await ranks[0]!.log('fatal'));
    expect(fatal).toContain('dtype');
    expect(fatal).toContain('rank 1');
  });

  it.each([
    [['--rank', '3'], 2, '--rank 3 is not below --world-size 1'],
    [['--max-model-length', '1000000'], 2, 'more than the model'],
    [['--kv-cache-bytes', '1000'], 2, 'KV cache'],
    [['--model', '/nonexistent'], 2, '/nonexistent'],
  ])('ends %j with %i', async (flags, code, text) => {
    const rank = await startRank(['--model', TINY, ...flags]);
    expect(await rank.exitCode).toBe(code);
    expect(JSON.stringify(await rank.log('fatal'))).toContain(text);
  });

  it('names a port that is in use and ends with 4', async () => {
    const first = await startRank(['--model', TINY, '--simulate', '{}']);
    await first.log('listening');
    const second = startRankAt(first.address, ['--model', TINY, '--simulate', '{}']);
    expect(await second.exitCode).toBe(4);
    expect(JSON.stringify(await second.log('fatal'))).toContain(first.address);
  });
});
