// Against what the published tokenizer gives for the fixtures' texts, ids and prompts.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { readModelConfig } from '../checkpoint/checkpoint.ts';
import { Detokenizer } from './detokenizer.ts';
import { buildPrompt } from './prompt.ts';
import type { Message } from './prompt.ts';
import { Tokenizer } from './tokenizer.ts';

interface Tokenization {
  texts: { text: string; ids: number[]; decoded: string; decoded_skip_special: string }[];
  decode_random_ids: { ids: number[]; decoded: string; decoded_skip_special: string }[];
}

interface GoldenPrompt {
  name: string;
  image: boolean;
  system: string | null;
  history: [string, string][];
  question: string;
  ids: number[];
}

describe.each(['tiny', 'small-tp'])('%s', (checkpoint) => {
  const fixture = (path: string) => fileURLToPath(new URL(`../../test/fixtures/${path}`, import.meta.url));
  const golden = (file: string): unknown =>
    JSON.parse(readFileSync(fixture(`golden/${checkpoint}/${file}`), 'utf8'));
  const directory = fixture(`checkpoints/${checkpoint}`);
  const tokenizer = Tokenizer.fromDirectory(directory);
  const config = readModelConfig(directory);
  const { texts, decode_random_ids: randomIds } = golden('tokenization.json') as Tokenization;
  const prompts = golden('prompts.json') as GoldenPrompt[];

  it.each(texts)('encodes $text', ({ text, ids }) => {
    expect(tokenizer.encodeWithControlTokens(text)).toEqual(ids);
  });

  const controlTexts = [...tokenizer.vocabulary.added.ids.keys()];
  const plainTexts = texts.filter(({ text }) => !controlTexts.some((control) => text.includes(control)));
  it.each(plainTexts)('encodes $text as plain text', ({ text, ids }) => {
    expect(tokenizer.encode(text)).toEqual(ids);
  });

  it.each([...texts, ...randomIds])('decodes $ids', ({ ids, decoded, decoded_skip_special: skipped }) => {
    expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(decoded);
    expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe(skipped);
    const detokenizer = new Detokenizer(tokenizer);
    expect(ids.map((id) => detokenizer.push([id])).join('') + detokenizer.flush()).toBe(skipped);
  });

  it.each(prompts.filter(({ name }) => name !== 'control_look_alike'))(
    'builds the prompt $name',
    (golden) => {
      const { tokenIds, images } = buildPrompt(
        tokenizer,
        { messages: messagesOf(golden), imageCount: golden.image ? 1 : 0 },
        config,
      );
      expect(tokenIds).toEqual(golden.ids);
      const context = tokenizer.controlTokenId('<IMG_CONTEXT>');
      expect(images).toEqual(golden.image ? [{ offset: golden.ids.indexOf(context), length: 256 }] : []);
    },
  );

  it('keeps control strings of a message as text, where the published formatter would not', () => {
    const golden = prompts.find(({ name }) => name === 'control_look_alike')!;
    const { tokenIds } = buildPrompt(tokenizer, { messages: messagesOf(golden), imageCount: 0 }, config);
    expect(tokenIds).not.toEqual(golden.ids);
    expect(tokenIds.filter((id) => id === tokenizer.controlTokenId('<|im_start|>'))).toHaveLength(3);
    expect(tokenizer.decode(tokenIds, { skipSpecialTokens: true })).toContain(golden.question);
  });
});

function messagesOf({ system, history, question }: GoldenPrompt): Message[] {
  const messages: Message[] = [];
  if (system !== null) messages.push({ role: 'system', text: system });
  for (const [user, assistant] of history)
    messages.push({ role: 'user', text: user }, { role: 'assistant', text: assistant });
  messages.push({ role: 'user', text: question });
  return messages;
}
