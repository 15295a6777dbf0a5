// The prefix cache and the encoder cache of a group of real processes: what they save, and that no answer changes by it.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { EngineClient, Submit } from '../../../gen/proto/internvl/engine/v1/engine.ts';
import { FIXTURES, freeAddress, startGroup, stopAll } from './rank-processes.ts';
import { GREEDY, RouterSession, connect, putImage, submit } from './router-session.ts';

const TINY = join(FIXTURES, 'checkpoints/tiny');
const FLAGS = ['--dtype', 'float32', '--max-model-length', '2048', '--threads', '1'];
const BLOCK = 16;
const PICTURE = readFileSync(join(FIXTURES, 'images/p1_shapes.png'));
const HASH = createHash('sha256').update(PICTURE).digest();

interface Question {
  /** Each repeated to a run of this many text tokens before and after the picture. */
  readonly before?: readonly [token: number, count: number];
  readonly picture?: boolean;
  readonly after: readonly number[];
  readonly cacheSalt?: string;
}

interface Answer {
  readonly tokens: readonly number[];
  readonly logprobs: readonly number[];
  readonly cachedTokens: number;
  readonly promptTokens: number;
}

/** A running group and a session with it. */
class Group {
  readonly #client: EngineClient;
  readonly #session: RouterSession;
  readonly #metrics: string;
  #handle = 0;

  static async start(worldSize: number, flags: readonly string[]): Promise<Group> {
    const metrics = await freeAddress();
    const ranks = await startGroup(worldSize, ['--model', TINY, ...FLAGS, ...flags], (rank) =>
      rank === 0 ? ['--metrics-listen', metrics] : [],
    );
    await ranks[0]!.log('serving');
    const client = connect(ranks[0]!.address);
    const group = new Group(client, await RouterSession.open(client), metrics);
    await putImage(client, PICTURE);
    return group;
  }

  constructor(client: EngineClient, session: RouterSession, metrics: string) {
    this.#client = client;
    this.#session = session;
    this.#metrics = metrics;
  }

  async ask(question: Question): Promise<Answer> {
    const [answer] = await this.askAll([question]);
    return answer!;
  }

  /** All at once. */
  async askAll(questions: readonly Question[]): Promise<Answer[]> {
    const submits = questions.map((question) => this.#submitOf(question));
    this.#session.submit(...submits);
    await this.#session.until(() => submits.every(({ handle }) => this.#session.done.has(handle)));
    return submits.map(({ handle, tokenIds }) => ({
      tokens: this.#session.tokens.get(handle) ?? [],
      logprobs: this.#session.logprobs.get(handle) ?? [],
      cachedTokens: this.#session.done.get(handle)!.cachedTokens,
      promptTokens: tokenIds.length,
    }));
  }

  async metric(name: string): Promise<number> {
    const text = await (await fetch(`http://${this.#metrics}/metrics`)).text();
    const value = new RegExp(`^internvl_${name} (.*)$`, 'm').exec(text)?.[1];
    if (value === undefined) throw new Error(`no metric ${name}:\n${text}`);
    return Number(value);
  }

  close(): void {
    this.#session.cancel();
    this.#client.close();
  }

  #submitOf({ before: [token, count] = [0, 0], picture, after, cacheSalt = '' }: Question): Submit {
    const { imageTokenId, imageTokens } = this.#session.welcome!.info!;
    const text = Array.from({ length: count }, (_, index) => token + (index % 7));
    const rows = picture === true ? Array.from({ length: imageTokens }, () => imageTokenId) : [];
    this.#handle += 1;
    return submit({
      handle: this.#handle,
      tokenIds: [...text, ...rows, ...after],
      images: picture === true ? [{ hash: HASH, offset: count, length: imageTokens }] : [],
      sampling: { ...GREEDY, maxTokens: 6, ignoreEos: true },
      logprobs: 0,
      cacheSalt,
    });
  }
}

/** What is cached of a prompt that was asked before. */
const whole = ({ promptTokens }: Answer): number => Math.floor((promptTokens - 1) / BLOCK) * BLOCK;

function expectClose(answer: Answer, other: Answer, most: number): void {
  expect(answer.tokens).toEqual(other.tokens);
  for (const [index, logprob] of answer.logprobs.entries())
    expect(Math.abs(logprob - other.logprobs[index]!)).toBeLessThan(most);
}

afterAll(stopAll);

const text: Question = { before: [300, 70], after: [401, 402, 403] };
const otherText: Question = { before: [300, 70], after: [411, 402, 403, 404, 405] };
const picture: Question = { before: [320, 20], picture: true, after: [401, 402] };
const otherQuestion: Question = { before: [320, 20], picture: true, after: [407, 408, 409] };
const otherSystem: Question = { before: [340, 40], picture: true, after: [401, 402] };
const salted: Question = { ...picture, cacheSalt: 'tenant' };

// Keys and values that differ in float32's last bits may round to neighbours in e4m3.
describe.each([
  [1, 'auto', 1e-4],
  [2, 'auto', 1e-4],
  [2, 'fp8', 0.05],
] as const)('the caches of %i ranks, keys and values as %s', (worldSize, kvCacheDtype, most) => {
  const kept = ['--kv-cache-dtype', kvCacheDtype];

  it('save what was computed before and change no answer', async () => {
    const on = await Group.start(worldSize, [...kept, '--max-batched-tokens', '64']);
    const off = await Group.start(worldSize, [
      ...kept,
      '--prefix-cache',
      'off',
      '--encoder-cache-bytes',
      '0',
    ]);

    const first = await on.ask(text);
    const [second, third] = [await on.ask(text), await on.ask(text)];
    expect([first.cachedTokens, second.cachedTokens, third.cachedTokens]).toEqual([0, 64, 64]);
    // The same blocks and the same rest: the same computation, bit for bit.
    expect(third).toEqual(second);
    expectClose(second, first, most);
    expect(await on.metric('prefix_cache_hits_total')).toBe(128);
    expect(await on.metric('kv_cache_idle_blocks')).toBe(4); // 73 tokens and 5 more
    expect(await on.metric('kv_cache_usage_ratio')).toBe(0);
    expect((await on.ask(otherText)).cachedTokens).toBe(64);

    const seen = await on.ask(picture);
    expect(seen.cachedTokens).toBe(0);
    expect(await on.metric('encoder_cache_misses_total')).toBe(1);
    const again = await on.ask(picture);
    expect(again.cachedTokens).toBe(whole(again));
    expectClose(again, seen, most);
    const asked = await on.ask(otherQuestion);
    expect(asked.cachedTokens).toBe(Math.floor((20 + 256) / BLOCK) * BLOCK);
    // Its rows were needed from inside the picture on: they were still there, as they are behind another beginning.
    const moved = await on.ask(otherSystem);
    expect(moved.cachedTokens).toBe(0);
    expect(await on.metric('encoder_cache_misses_total')).toBe(1);
    expect(await on.metric('encoder_cache_hits_total')).toBeGreaterThanOrEqual(1);
    expect(await on.metric('encoder_cache_bytes')).toBeGreaterThan(0);

    const other = await on.ask(salted);
    expect(other.cachedTokens).toBe(0);
    expect(await on.metric('encoder_cache_misses_total')).toBe(2);
    expect((await on.ask(salted)).cachedTokens).toBe(whole(other));

    const questions = [text, otherText, picture, otherQuestion, otherSystem, salted];
    const cached = await on.askAll([...questions, ...questions]);
    for (const [index, question] of questions.entries()) {
      const plain = await off.ask(question);
      expect(plain.cachedTokens).toBe(0);
      for (const answer of [cached[index]!, cached[index + questions.length]!]) {
        expect(answer.cachedTokens).toBe(whole(answer));
        expectClose(answer, plain, most);
      }
    }
    expect(await off.metric('prefix_cache_hits_total')).toBe(0);
    expect(await off.metric('kv_cache_idle_blocks')).toBe(0);
    expect(await off.metric('encoder_cache_hits_total')).toBe(0);
    expect(await off.metric('encoder_cache_misses_total')).toBe(4);
    on.close();
    off.close();
  });

  it('stay within their memory when it is short', async () => {
    // 2048 tokens are the least that a KV cache can have.
    const kvCacheBytes = (2048 * 2 * 3 * 2 * (kvCacheDtype === 'fp8' ? 8 + 4 : 8 * 4)) / worldSize;
    const flags = `--kv-cache-bytes ${kvCacheBytes} --max-sequences 8 --encoder-cache-bytes 1`;
    const small = await Group.start(worldSize, [...kept, ...flags.split(' ')]);
    const before = await small.ask(text);
    const many = Array.from({ length: 12 }, (_, index): Question => ({
      before: [200 + index, 250],
      after: [401],
    }));
    const answers = await small.askAll(many);
    expect((await small.ask(many[11]!)).cachedTokens).toBe(240);
    for (const [index, question] of many.entries())
      expectClose(await small.ask(question), answers[index]!, most);
    const after = await small.ask(text);
    expect(after.cachedTokens).toBe(0); // evicted long ago
    expectClose(after, before, most);
    await small.ask(picture);
    await small.ask(otherSystem);
    expect(await small.metric('encoder_cache_misses_total')).toBe(2);
    expect(await small.metric('kv_cache_usage_ratio')).toBe(0);
    expect(await small.metric('kv_cache_idle_blocks')).toBeLessThanOrEqual(
      await small.metric('kv_cache_blocks'),
    );
    small.close();
  });
});
