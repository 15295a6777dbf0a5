// The options of the simulated engine as plain JSON: how long things take, how much memory there is, what goes wrong and when.

import type { EngineInfo } from './engine.ts';

export interface Simulation extends EngineInfo {
  /** Token budget of a step. */
  readonly maxBatchedTokens: number;
  /** As in EngineTuning. */
  readonly stepTargetMs: number;
  readonly maxWaiting: number;
  /** The caches, as in EngineTuning. */
  readonly prefixCache: boolean;
  readonly encoderCacheBytes: number;
  readonly imageBytes: number;
  /** A step takes stepUs + stepUsPerSequence · decoding sequences + prefillUsPerToken · prompt tokens + imageEncodeUs · pictures, over speed; what a cache has takes no time. */
  readonly stepUs: number;
  readonly stepUsPerSequence: number;
  readonly prefillUsPerToken: number;
  readonly imageEncodeUs: number;
  readonly speed: number;
  /** Tokens to answer with, for instance some that detokenize to words. */
  readonly tokenIds: readonly number[];
  /** Given where an answer ends by itself, after minAnswerTokens to maxAnswerTokens tokens; undefined = answers go on to max_tokens. */
  readonly stopTokenId: number | undefined;
  readonly minAnswerTokens: number;
  readonly maxAnswerTokens: number;
  /** Other seeds give other answers and other refusals. */
  readonly seed: number;
  /** The engine is lost after this many steps; undefined = never. */
  readonly failAfterSteps: number | undefined;
  /** Steps stop ending after this many; undefined = never. */
  readonly stallAfterSteps: number | undefined;
  /** Share of submissions that end with 'error': 0 to 1. */
  readonly rejectRate: number;
}

// Times of about a 40B model in bf16 on four accelerators.
const DEFAULTS: Simulation = {
  maxModelLength: 4096,
  vocabSize: 64_003,
  blockSize: 16,
  kvBlocks: 4096,
  maxSequences: 64,
  maxBatchedTokens: 2048,
  stepTargetMs: 100,
  maxWaiting: 4096,
  prefixCache: true,
  encoderCacheBytes: 256 << 20,
  imageBytes: 256 * 7168 * 2,
  stepUs: 18_000,
  stepUsPerSequence: 100,
  prefillUsPerToken: 60,
  imageEncodeUs: 40_000,
  speed: 1,
  tokenIds: Array.from({ length: 64 }, (_, index) => 100 + index),
  stopTokenId: undefined,
  minAnswerTokens: 16,
  maxAnswerTokens: 256,
  seed: 0,
  failAfterSteps: undefined,
  stallAfterSteps: undefined,
  rejectRate: 0,
};

const COUNTS = [
  'maxModelLength',
  'vocabSize',
  'blockSize',
  'kvBlocks',
  'maxSequences',
  'maxBatchedTokens',
  'maxWaiting',
  'imageBytes',
];
const TIMES = ['stepUs', 'stepUsPerSequence', 'prefillUsPerToken', 'imageEncodeUs'];
const WHOLE = [
  'stepTargetMs',
  'encoderCacheBytes',
  'stopTokenId',
  'minAnswerTokens',
  'maxAnswerTokens',
  'seed',
  'failAfterSteps',
  'stallAfterSteps',
];

/** The simulation's options are wrong; the message lists every problem. */
export class SimulationError extends Error {
  override readonly name = 'SimulationError';
  readonly code = 'invalid_simulation';

  constructor(problems: readonly string[]) {
    super(`simulation: ${problems.join('; ')}`);
  }
}

/** Reads options, absent ones filled with defaults; throws SimulationError. */
export function parseSimulation(json: unknown): Simulation {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new SimulationError(['must be an object']);
  }
  const problems = Object.entries(json).flatMap(([key, value]) => {
    const problem = problemOf(key, value);
    return problem === undefined ? [] : [`${key} ${problem}`];
  });
  if (problems.length > 0) throw new SimulationError(problems);
  const simulation: Simulation = { ...DEFAULTS, ...json };
  const inconsistent = inconsistencies(simulation);
  if (inconsistent.length > 0) throw new SimulationError(inconsistent);
  return simulation;
}

function problemOf(key: string, value: unknown): string | undefined {
  const isNumber = typeof value === 'number' && Number.isFinite(value);
  const isWhole = isNumber && Number.isSafeInteger(value) && value >= 0;
  if (COUNTS.includes(key)) return isWhole && value >= 1 ? undefined : 'must be a whole number of at least 1';
  if (TIMES.includes(key)) return isNumber && value >= 0 ? undefined : 'must be a number of at least 0';
  if (WHOLE.includes(key)) return isWhole ? undefined : 'must be a whole number of at least 0';
  if (key === 'speed') return isNumber && value > 0 ? undefined : 'must be a number above 0';
  if (key === 'prefixCache') return typeof value === 'boolean' ? undefined : 'must be true or false';
  if (key === 'rejectRate')
    return isNumber && value >= 0 && value <= 1 ? undefined : 'must be a number from 0 to 1';
  if (key === 'tokenIds') {
    const isList = Array.isArray(value) && value.length > 0 && value.every((id) => Number.isSafeInteger(id));
    return isList ? undefined : 'must be a list of at least one whole number';
  }
  return 'is not an option';
}

function inconsistencies(simulation: Simulation): string[] {
  const { vocabSize, tokenIds, stopTokenId, minAnswerTokens, maxAnswerTokens } = simulation;
  const problems: string[] = [];
  const outside = [...tokenIds, stopTokenId ?? 0].find((id) => id < 0 || id >= vocabSize);
  if (outside !== undefined)
    problems.push(`token ${String(outside)} is outside vocabSize, ${String(vocabSize)}`);
  if (stopTokenId !== undefined && tokenIds.includes(stopTokenId))
    problems.push('tokenIds has the stopTokenId');
  if (minAnswerTokens > maxAnswerTokens) problems.push('minAnswerTokens is above maxAnswerTokens');
  if (simulation.maxBatchedTokens < simulation.maxSequences)
    problems.push('maxBatchedTokens is below maxSequences');
  return problems;
}
