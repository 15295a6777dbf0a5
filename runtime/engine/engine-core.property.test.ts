// Random arrivals, priorities, pictures, ways to choose tokens, stops, aborts and shortages against the real loop: what must hold after every step, and that
// every answer is the one that the sequence gets alone.

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { FakeModel, expectedTokens } from '../../test/support/fake-model.ts';
import { picture, promptOf, submission } from '../../test/support/submissions.ts';
import { EngineCore } from './engine-core.ts';
import type { FinishedSequence, StepOutput, Submission } from './engine.ts';
import { ModelExecutor } from './executor.ts';
import type { AwaitResult, Executor } from './executor.ts';
import { RankState } from './rank-state.ts';
import { DRAW_VALUES } from './step-inputs.ts';
import type { StepInputs } from './step-inputs.ts';
import type { StepPlan } from './step-plan.ts';

const VOCAB = 13;
const PICTURE_TOKENS = 5;
const SEED = Number.parseInt(process.env['PROPERTY_SEED'] ?? '20261123', 10); // printed by fast-check when a run fails

/** How tokens are chosen: by the model, or on the host, which keeps steps serial. */
const WAYS: Readonly<Record<string, Partial<Submission['sampling']> & { readonly logprobs?: number }>> = {
  greedy: {},
  drawn: { temperature: 3 },
  'drawn after cuts': { temperature: 4, topK: 9, topP: 0.95 },
  stopped: { temperature: 3, stopTokenIds: [3, 7] },
  'kept from stopping': { temperature: 3, stopTokenIds: [3, 7], minTokens: 3 },
  penalised: { temperature: 2, repetitionPenalty: 1.3 },
  reported: { temperature: 2, topP: 0.9, logprobs: 2 },
};

interface Arrival {
  readonly step: number;
  readonly textTokens: number;
  readonly first: number;
  readonly pictures: readonly string[];
  readonly cacheSalt: string;
  readonly maxTokens: number;
  readonly priority: number;
  readonly way: string;
  readonly seed: bigint | undefined;
  /** Steps after arrival at which it is aborted, and whether while a step is under way. */
  readonly abort: { readonly after: number; readonly midStep: boolean } | undefined;
}

interface Scenario {
  readonly blockSize: number;
  readonly kvTokens: number;
  readonly maxSequences: number;
  readonly extraBudget: number;
  readonly stepTargetMs: number;
  readonly maxImageEncodes: number;
  readonly maxEncodedImages: number;
  readonly agingSteps: number;
  readonly prefixCache: boolean;
  readonly maxCachedImages: number;
  /** Steps are launched before the tokens of the last are known. */
  readonly runsAhead: boolean;
  readonly arrivals: readonly Arrival[];
}

const arrival: fc.Arbitrary<Arrival> = fc.record({
  step: fc.nat(12),
  textTokens: fc.integer({ min: 1, max: 12 }),
  first: fc.nat(2), // few beginnings, so that many are shared
  pictures: fc.array(fc.constantFrom('cat', 'dog', 'sun'), { maxLength: 3 }),
  cacheSalt: fc.constantFrom('', '', 'tenant'),
  maxTokens: fc.integer({ min: 1, max: 25 }),
  priority: fc.nat(2),
  // Mostly those that the model chooses, so that steps run ahead for long.
  way: fc.oneof(
    { weight: 12, arbitrary: fc.constantFrom('greedy', 'drawn', 'drawn after cuts', 'stopped') },
    { weight: 1, arbitrary: fc.constantFrom(...Object.keys(WAYS)) },
  ),
  seed: fc.option(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { nil: undefined }),
  abort: fc.option(fc.record({ after: fc.nat(15), midStep: fc.boolean() }), { nil: undefined, freq: 4 }),
});

const scenario: fc.Arbitrary<Scenario> = fc.record({
  blockSize: fc.integer({ min: 1, max: 5 }),
  kvTokens: fc.integer({ min: 20, max: 80 }),
  maxSequences: fc.integer({ min: 1, max: 6 }),
  extraBudget: fc.nat(30),
  stepTargetMs: fc.nat(3),
  maxImageEncodes: fc.integer({ min: 1, max: 3 }),
  maxEncodedImages: fc.integer({ min: 1, max: 4 }),
  agingSteps: fc.integer({ min: 1, max: 30 }),
  prefixCache: fc.boolean(),
  maxCachedImages: fc.nat(3),
  runsAhead: fc.boolean(),
  arrivals: fc.array(arrival, { minLength: 1, maxLength: 14 }),
});

describe('engine core under random load', () => {
  it('ends every sequence exactly once with the tokens that it gets alone', async () => {
    const seen = {
      preemptions: 0,
      chunks: 0,
      sharedRows: 0,
      ahead: 0,
      drawnAhead: 0,
      hitTokens: 0,
      restarts: 0,
      imageHits: 0,
    };
    const reasons = new Set<string>();
    await fc.assert(
      fc.asyncProperty(scenario, async (given) => {
        const run = await simulate(given);
        seen.preemptions += run.preemptions;
        seen.chunks += run.chunks;
        seen.sharedRows += run.sharedRows;
        seen.ahead += run.ahead;
        seen.drawnAhead += run.drawnAhead;
        seen.restarts += run.restarts;
        seen.hitTokens += run.caches.hitTokens;
        seen.imageHits += run.caches.imageHits;
        for (const { reason } of run.finished.values()) reasons.add(reason);
      }),
      { seed: SEED, numRuns: 400 },
    );
    // The scenarios reach what they are for.
    expect(seen.preemptions).toBeGreaterThan(20);
    expect(seen.chunks).toBeGreaterThan(200);
    expect(seen.sharedRows).toBeGreaterThan(10);
    expect(seen.ahead).toBeGreaterThan(500);
    expect(seen.drawnAhead).toBeGreaterThan(500);
    expect(seen.hitTokens).toBeGreaterThan(100);
    expect(seen.restarts).toBeGreaterThan(10);
    expect(seen.imageHits).toBeGreaterThan(50);
    expect([...reasons].sort()).toEqual(['abort', 'error', 'length', 'stop']);
  }, 60_000);
});

async function simulate(given: Scenario) {
  const limits = limitsOf(given);
  const checked = new CheckedExecutor(given, limits);
  let clockUs = 0;
  const core = new EngineCore({
    info: { ...limits, maxModelLength: 60, vocabSize: VOCAB, maxSequences: given.maxSequences },
    tuning: {
      maxBatchedTokens: limits.maxBatchedTokens,
      stepTargetMs: given.stepTargetMs,
      maxWaiting: 100,
      maxImageEncodes: given.maxImageEncodes,
      maxEncodedImages: given.maxEncodedImages,
      agingSteps: given.agingSteps,
      prefixCache: given.prefixCache,
      encoderCacheBytes: given.maxCachedImages * 10 + 9,
      imageBytes: 10,
    },
    executor: checked,
    now: () => (clockUs += 200 + checked.tokens * 50), // so that the target bounds some steps
    randomSeed: () => 0n,
  });
  const submissions = given.arrivals.map((each, handle) => submissionOf(each, handle));
  checked.saltOf = (handle) => given.arrivals[handle]?.cacheSalt;
  const tokens = new Map<number, number[]>();
  const finished = new Map<number, FinishedSequence>();
  const take = (output: StepOutput | undefined): void => {
    if (output === undefined) return;
    collect(output, tokens, finished);
  };
  for (let step = 0; step <= 40 || core.hasWork; step += 1) {
    expect(step, 'steps until all have ended').toBeLessThan(2000);
    core.submit(submissions.filter((_, handle) => given.arrivals[handle]?.step === step));
    const aborts = (midStep: boolean): number[] =>
      [...given.arrivals.entries()].flatMap(([handle, { abort, step: start }]) =>
        abort?.midStep === midStep && start + abort.after === step ? [handle] : [],
      );
    core.abort(aborts(false));
    checked.duringStep = () => {
      core.abort(aborts(true));
    };
    take(await core.step());
    core.checkInvariants();
    const { kvBlocksUsed, waitingUncachedTokens, caches } = core.load();
    expect(kvBlocksUsed + caches.idleBlocks).toBeLessThanOrEqual(limits.kvBlocks);
    expect(waitingUncachedTokens).toBeGreaterThanOrEqual(0);
  }
  let cachedTokens = 0;
  for (const [handle, { reason, message, cachedTokens: cached }] of finished) {
    const request = submissions[handle];
    const got = tokens.get(handle) ?? [];
    if (request === undefined) throw new Error(`unknown handle ${String(handle)} finished`);
    cachedTokens += cached;
    expect(cached % limits.blockSize).toBe(0);
    expect(cached).toBeLessThan(request.tokenIds.length);
    expect(got).toEqual(expectedTokens(request, got.length, VOCAB));
    const { stopTokenIds, minTokens } = request.sampling;
    expect(got.slice(minTokens).some((token) => stopTokenIds.includes(token))).toBe(false);
    if (reason === 'stop')
      expect(stopTokenIds).toContain(expectedTokens(request, got.length + 1, VOCAB).at(-1));
    if (reason === 'length') expect(got.length).toBe(request.sampling.maxTokens);
    if (reason === 'error') expect(message).toMatch(/KV/);
    if (reason === 'abort') expect(given.arrivals[handle]?.abort).toBeDefined();
  }
  expect([...finished.keys()].sort(byNumber)).toEqual([...submissions.keys()]);
  expect(core.load()).toMatchObject({ running: 0, waiting: 0, kvBlocksUsed: 0, waitingUncachedTokens: 0 });
  const { caches } = core.load();
  expect(caches.hitTokens).toBe(cachedTokens);
  if (!given.prefixCache) expect(caches).toMatchObject({ hitTokens: 0, idleBlocks: 0 });
  return {
    finished,
    caches,
    restarts: checked.restarts,
    preemptions: checked.preemptions,
    chunks: checked.chunks,
    ahead: checked.ahead,
    drawnAhead: checked.drawnAhead,
    sharedRows: checked.sharedRows,
  };
}

function limitsOf({ blockSize, kvTokens, maxSequences, extraBudget }: Scenario) {
  return {
    blockSize,
    kvBlocks: Math.max(1, Math.floor(kvTokens / blockSize)),
    maxBatchedTokens: maxSequences + extraBudget,
  };
}

function submissionOf(
  { textTokens, first, pictures, maxTokens, priority, cacheSalt, way, seed }: Arrival,
  handle: number,
): Submission {
  const images = pictures.map((name, index) =>
    picture(name, 1 + index * (PICTURE_TOKENS + 1), PICTURE_TOKENS),
  );
  const tokenIds = promptOf(textTokens + pictures.length * (PICTURE_TOKENS + 1), first);
  const { logprobs, ...sampling } = WAYS[way] ?? {};
  return submission(handle, {
    tokenIds,
    images,
    priority,
    cacheSalt,
    logprobs,
    sampling: { ...sampling, maxTokens, seed },
  });
}

function collect(
  output: StepOutput,
  tokens: Map<number, number[]>,
  finished: Map<number, FinishedSequence>,
): void {
  let at = 0;
  for (const [index, handle] of output.handles.entries()) {
    expect(finished.has(handle), `tokens of ${String(handle)} after its end`).toBe(false);
    const count = output.counts[index] ?? 0;
    tokens.set(handle, [...(tokens.get(handle) ?? []), ...output.tokenIds.slice(at, at + count)]);
    at += count;
  }
  expect(at).toBe(output.tokenIds.length);
  for (const end of output.finished) {
    expect(finished.has(end.handle), `second end of ${String(end.handle)}`).toBe(false);
    finished.set(end.handle, end);
  }
}

/**
 * Executes on the fake model and checks each plan: budgets, that a second rank derives the same, that nobody writes a block of another
 * sequence, and that prefixes stay within their salt.
 */
class CheckedExecutor implements Executor {
  preemptions = 0;
  /** Of the last step. */
  tokens = 0;
  chunks = 0;
  sharedRows = 0;
  /** Steps with tokens that were not known when they were launched. */
  ahead = 0;
  /** Those in which tokens are drawn. */
  drawnAhead = 0;
  /** Preempted sequences that found some of their blocks again. */
  restarts = 0;
  saltOf: (handle: number) => string | undefined = () => undefined;
  readonly #tables = new Map<number, number[]>();
  /** The salt of the sequence that wrote a block last. */
  readonly #writtenFor = new Map<number, string | undefined>();
  duringStep: () => void = () => undefined;
  readonly #model: FakeModel;
  readonly #executor: ModelExecutor;
  readonly #otherRank: RankState;
  readonly #given: Scenario;
  readonly #maxBatchedTokens: number;

  constructor(given: Scenario, limits: ReturnType<typeof limitsOf>) {
    this.#given = given;
    this.#maxBatchedTokens = limits.maxBatchedTokens;
    this.#model = new FakeModel({ vocabSize: VOCAB, ...limits, runsAhead: given.runsAhead });
    this.#otherRank = new RankState(limits);
    const otherHashes = new Map<number, number>();
    this.#executor = new ModelExecutor({
      ...limits,
      model: this.#model,
      publish: (plan) => {
        this.#otherRank.apply(plan);
        otherHashes.set(plan.step, this.#otherRank.planHash);
      },
      verify: (step, planHash) => {
        expect(otherHashes.get(step)).toBe(planHash);
      },
    });
  }

  get runsAhead(): boolean {
    return this.#executor.runsAhead;
  }

  launch(plan: StepPlan, inputs: StepInputs, pixels: ReadonlyMap<number, Uint8Array>): AwaitResult {
    const numTokens = plan.sequences.reduce((sum, sequence) => sum + sequence.numTokens, 0);
    expect(numTokens).toBe(inputs.ids.length);
    this.tokens = numTokens;
    expect(numTokens).toBeLessThanOrEqual(this.#maxBatchedTokens);
    expect(plan.sequences.length).toBeLessThanOrEqual(this.#given.maxSequences);
    expect(plan.encodeImages.length).toBeLessThanOrEqual(this.#given.maxImageEncodes);
    for (const image of plan.encodeImages) {
      const isUsed = plan.imageRows.some((rows) => rows.image === image);
      expect(isUsed, 'an image is encoded in the step of its first row to compute').toBe(true);
    }
    this.#checkBlocks(plan);
    this.preemptions += plan.preempted.length;
    this.chunks += plan.sequences.filter((sequence) => !sequence.wantsLogits).length;
    this.sharedRows += plan.imageRows.length - new Set(plan.imageRows.map(({ image }) => image)).size;
    const isAhead = inputs.ids.some((id) => id < 0);
    this.ahead += isAhead ? 1 : 0;
    this.drawnAhead +=
      isAhead && inputs.draws.some((value, at) => at % DRAW_VALUES === 0 && value > 0) ? 1 : 0;
    const result = this.#executor.launch(plan, inputs, pixels);
    inputs.words.fill(-1_000_000); // valid during the call only
    expect(this.#model.numImages).toBeLessThanOrEqual(
      this.#given.maxEncodedImages + this.#given.maxCachedImages,
    );
    return () => {
      this.duringStep();
      return result();
    };
  }

  #checkBlocks({ finished, preempted, sequences }: StepPlan): void {
    for (const handle of finished) this.#tables.delete(handle);
    const restarting = new Set(preempted);
    for (const handle of preempted) this.#tables.set(handle, []);
    for (const { handle, numComputed, newBlocks } of sequences) {
      const before = this.#tables.get(handle);
      const table = [...(before ?? []), ...newBlocks];
      this.#tables.set(handle, table);
      if (before !== undefined && before.length > 0) continue;
      if (before !== undefined && numComputed > 0) this.restarts += 1;
      const others = table
        .slice(0, numComputed / this.#given.blockSize)
        .filter((block) => this.#writtenFor.get(block) !== this.saltOf(handle));
      expect(others, 'shared blocks of another salt').toEqual([]);
    }
    expect(sequences.some(({ handle }) => restarting.has(handle))).toBe(false);
    for (const { handle, numComputed, numTokens } of sequences) {
      const { blockSize } = this.#given;
      const last = Math.floor((numComputed + numTokens - 1) / blockSize);
      for (const block of (this.#tables.get(handle) ?? []).slice(
        Math.floor(numComputed / blockSize),
        last + 1,
      )) {
        const owners = [...this.#tables.values()].filter((table) => table.includes(block));
        if (owners.length !== 1) throw new Error(`block ${String(block)} is written and shared`);
        this.#writtenFor.set(block, this.saltOf(handle));
      }
    }
  }
}

function byNumber(a: number, b: number): number {
  return a - b;
}
