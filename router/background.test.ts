import { createHash, randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { status } from '@grpc/grpc-js';
import { afterEach, describe, expect, it } from 'vitest';
import type { EngineInfo } from '../gen/proto/internvl/engine/v1/engine.ts';
import { Background } from './background.ts';
import { ServedModel, type Chat } from './models.ts';

const CHECKPOINT = new URL('../test/fixtures/checkpoints/tiny/', import.meta.url);
const files = new Map(
  readdirSync(CHECKPOINT)
    .filter((name) => /\.(model|json)$/.test(name))
    .map((name) => [name, readFileSync(new URL(name, CHECKPOINT))]),
);
const served = (imageTokens: number) => new ServedModel({ imageTokens } as EngineInfo, files);
const chat = (text: string, imageCount = 0): Chat => ({ messages: [{ role: 'user', text }], imageCount });

let background: Background;
afterEach(() => background.close());

describe('Background', () => {
  it('hashes a picture without copying it', async () => {
    background = new Background(1 << 24);
    const data = Buffer.from(new Uint8Array(randomBytes(1 << 20)).buffer);
    const bytes = Buffer.from(data);
    const back = await background.hash(data);
    expect(background.hashOf(back)).toBe(createHash('sha256').update(bytes).digest('hex'));
    expect(back.equals(bytes)).toBe(true);
    // They moved.
    expect(data.length).toBe(0);
    expect(background.hashOf(bytes)).toBeUndefined();
  });

  it('leaves what surrounds a picture alone', async () => {
    background = new Background(1 << 24);
    const all = Buffer.alloc(1000, 7);
    const back = await background.hash(all.subarray(100, 200));
    expect([back.length, all.length]).toEqual([100, 1000]);
  });

  it('makes the prompts that the model makes, also of several models in turn', async () => {
    background = new Background(1 << 24);
    const models = [served(4), served(16)];
    for (const model of [...models, ...models]) {
      const asked = chat('What is in this picture? '.repeat(50), 2);
      expect(await background.prompt(model, asked)).toEqual(model.prompt(asked));
    }
  });

  it('passes on what the prompt template refuses', async () => {
    background = new Background(1 << 24);
    await expect(background.prompt(served(4), { messages: [], imageCount: 0 })).rejects.toMatchObject({
      name: 'PromptError',
      code: 'no_messages',
    });
  });

  it('takes no more bytes than it may, and takes more once some are done', async () => {
    background = new Background(1000);
    const first = background.hash(new Uint8Array(600));
    await expect(background.hash(new Uint8Array(600))).rejects.toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
    });
    await first;
    await background.hash(new Uint8Array(600));
  });

  it('tokenizes with the right tokenizer after a prompt of another model was too much', async () => {
    background = new Background(1000);
    const [first, second] = [served(4), served(16)];
    for (const model of [first, second]) {
      await expect(background.prompt(model, chat('x'.repeat(2000)))).rejects.toMatchObject({
        code: status.RESOURCE_EXHAUSTED,
      });
      expect(await background.prompt(model, chat('one'))).toEqual(model.prompt(chat('one')));
    }
  });

  it('ends what is under way when its thread ends, and starts another one', async () => {
    background = new Background(1 << 24);
    const model = served(4);
    await background.prompt(model, chat('one'));
    const lost = expect(background.prompt(model, chat('two'))).rejects.toThrow('ended');
    await background.close();
    await lost;
    expect(await background.prompt(model, chat('three'))).toEqual(model.prompt(chat('three')));
  });
});
