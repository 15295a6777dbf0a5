// Golden cases as conversations that a client sends, with the log-probabilities that the published model gave.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FIXTURES, request, type Question } from './served.ts';
import type { GenerateRequest } from '../../gen/proto/internvl/v1/inference.ts';

export interface GoldenPrompt extends Question {
  readonly name: string;
  readonly text: string;
  readonly ids: readonly number[];
  readonly imageTokens: number;
}

export interface GoldenAnswer {
  readonly name: string;
  readonly prompt: GoldenPrompt;
  /** Without the end-of-sequence token. */
  readonly tokenIds: readonly number[];
  readonly finish: 'length' | 'eos';
  /** As the published tokenizer decodes it. */
  readonly text: string;
  /** Tokens before the first near tie. */
  readonly comparable: number;
  /** Per token, the five most likely: [token, log-probability], best first. */
  readonly top: readonly (readonly (readonly [number, number])[])[];
}

interface PromptJson {
  readonly name: string;
  readonly image: boolean;
  readonly system: string | null;
  readonly history: readonly [string, string][];
  readonly question: string;
  readonly image_tokens: number;
  readonly ids: number[];
}

interface AnswerJson {
  readonly name: string;
  readonly image: string | null;
  readonly new_ids: number[];
  readonly finish: 'length' | 'eos';
  readonly text_skip_special: string;
  readonly first_unstable_step: number | null;
  readonly top5_ids: number[][];
  readonly top5_logits: number[][];
  readonly logsumexp: number[];
}

/** A file of the fixture pictures. */
export function pictureFile(name: string): Buffer {
  return readFileSync(join(FIXTURES, 'images', name));
}

/** All prompts; those with a picture get `picture`, unless an answer was recorded for another. */
export function goldenPrompts(checkpoint: string, picture = 'p1_shapes.png'): GoldenPrompt[] {
  const pictures = new Map(
    (readJson(checkpoint, 'generate.json') as AnswerJson[]).map(({ name, image }) => [name, image]),
  );
  return (readJson(checkpoint, 'prompts.json') as PromptJson[]).map((prompt) => ({
    name: prompt.name,
    text: prompt.question,
    history: prompt.history,
    ...(prompt.system !== null && { system: prompt.system }),
    pictures: prompt.image ? [pictureFile(pictures.get(prompt.name) ?? picture)] : [],
    ids: prompt.ids,
    imageTokens: prompt.image_tokens,
  }));
}

export function goldenAnswers(checkpoint: string): GoldenAnswer[] {
  const prompts = new Map(goldenPrompts(checkpoint).map((prompt) => [prompt.name, prompt]));
  return (readJson(checkpoint, 'generate.json') as AnswerJson[]).map((run) => {
    const prompt = prompts.get(run.name);
    if (prompt === undefined) throw new RangeError(`no prompt ${run.name}`);
    const tokenIds = run.finish === 'eos' ? run.new_ids.slice(0, -1) : run.new_ids;
    return {
      name: run.name,
      prompt,
      tokenIds,
      finish: run.finish,
      text: run.text_skip_special,
      comparable: Math.min(run.first_unstable_step ?? Infinity, tokenIds.length),
      top: run.top5_ids.map((ids, step) =>
        ids.map((id, at): [number, number] => [id, run.top5_logits[step]![at]! - run.logsumexp[step]!]),
      ),
    };
  });
}

export function goldenAnswer(checkpoint: string, name: string): GoldenAnswer {
  const found = goldenAnswers(checkpoint).find((answer) => answer.name === name);
  if (found === undefined) throw new RangeError(`no golden answer ${name}`);
  return found;
}

/** The request that must give the answer. */
export function requestOf({ prompt }: GoldenAnswer, changes: Question = {}): GenerateRequest {
  return request({ ...prompt, ...changes, sampling: { maxTokens: 32, ...changes.sampling } });
}

function readJson(checkpoint: string, file: string): unknown {
  return JSON.parse(readFileSync(join(FIXTURES, 'golden', checkpoint, file), 'utf8'));
}
