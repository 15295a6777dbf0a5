import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { parseModelConfig } from '../runtime/model/config.ts';
import { buildPrompt } from '../runtime/tokenizer/prompt.ts';
import { Tokenizer } from '../runtime/tokenizer/tokenizer.ts';
import { writeModelDirectory } from './model-directory.ts';
import { SHAPE_40B } from './shape-40b.ts';

const DEMO = fileURLToPath(new URL('../examples/demo-model', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'internvl-model-directory-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('writeModelDirectory', () => {
  it('gives the published shape a tokenizer that knows every token of its vocabulary', () => {
    writeModelDirectory(folder, SHAPE_40B, DEMO);
    const config = parseModelConfig(JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')));
    expect(config.llm.vocabSize).toBe(64_007);
    const tokenizer = Tokenizer.fromDirectory(folder);
    const demo = Tokenizer.fromDirectory(DEMO);
    const text = 'How many shapes are there?';
    expect(tokenizer.encode(text)).toEqual(demo.encode(text));
    expect(tokenizer.decode([1500, 63_999], { skipSpecialTokens: true })).not.toBe('');
    expect(tokenizer.vocabulary.idOf('</box>')).toBe(64_006);
    const chat = { messages: [{ role: 'user' as const, text }], imageCount: 1 };
    const { tokenIds, images } = buildPrompt(tokenizer, chat, config);
    const image = tokenizer.vocabulary.idOf('<IMG_CONTEXT>');
    expect(tokenIds.filter((id) => id === image)).toHaveLength(256);
    expect(images).toHaveLength(1);
  });
});
