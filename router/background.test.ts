import { createHash, randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { status } from '@grpc/grpc-js';
import { afterEach, describe, expect, it } from 'vitest';
import type { EngineInfo } from '../gen/proto/internvl/engine/v1/engine.ts';
import { CountTokensRequest, GenerateRequest, Role, type Image } from '../gen/proto/internvl/v1/inference.ts';
import { Background } from './background.ts';
import { MalformedRequest } from './decode-request.ts';
import { ServedModel, type Chat } from './models.ts';

const CHECKPOINT = new URL('../test/fixtures/checkpoints/tiny/', import.meta.url);
const files = new Map(
  readdirSync(CHECKPOINT)
    .filter((name) => /\.(model|json)$/.test(name))
    .map((name) => [name, readFileSync(new URL(name, CHECKPOINT))]),
);
const served = (imageTokens: number) => new ServedModel({ imageTokens } as EngineInfo, files);
const chat = (text: string, imageCount = 0): Chat => ({ messages: [{ role: 'user', text }], imageCount });

const url = (data: Buffer): Image['source'] => ({
  $case: 'url',
  value: `data:image/png;base64,${data.toString('base64')}`,
});
const request = (sources: Image['source'][]): GenerateRequest =>
  GenerateRequest.fromPartial({
    messages: [
      {
        role: Role.USER,
        parts: sources.map((source) => ({ part: { $case: 'image' as const, value: { source } } })),
      },
    ],
  });

let background: Background;
afterEach(() => background.close());

describe('Background', () => {
  it('decodes a request whose bytes move to it, and knows the hashes of its pictures', async () => {
    background = new Background(1 << 24);
    const [large, small] = [randomBytes(1 << 20), randomBytes(100)];
    const asked = request([{ $case: 'data', value: large }, url(small), { $case: 'hash', value: 'ab' }]);
    const bytes = GenerateRequest.encode(asked).finish();
    const pieces = [bytes.slice(0, 700_000), bytes.slice(700_000)];
    const decoded = await background.decode('GenerateRequest', pieces);
    const sources = decoded.messages[0]!.parts.map(({ part }) =>
      part?.$case === 'image' ? part.value.source : undefined,
    );
    const pictures = [sources[0]!.value as Buffer, sources[1]!.value as Buffer];
    expect(pictures[0]!.equals(large)).toBe(true);
    expect(pictures[1]!.equals(small)).toBe(true);
    expect(sources[2]).toEqual({ $case: 'hash', value: 'ab' });
    for (const [index, data] of [large, small].entries())
      expect(background.hashOf(pictures[index]!)).toBe(createHash('sha256').update(data).digest('hex'));
    expect(background.hashOf(large)).toBeUndefined();
    // They moved.
    expect(pieces.map(({ length }) => length)).toEqual([0, 0]);
    // A picture keeps nothing of its message in memory.
    expect(pictures.map(({ buffer }) => buffer.byteLength)).toEqual([1 << 20, 100]);
  });

  it('leaves what surrounds a request alone', async () => {
    background = new Background(1 << 24);
    const bytes = GenerateRequest.encode(request([])).finish();
    const all = Buffer.concat([Buffer.alloc(100), bytes, Buffer.alloc(100)]);
    const decoded = await background.decode('GenerateRequest', [all.subarray(100, 100 + bytes.length)]);
    expect(decoded).toEqual(request([]));
    expect(all.length).toBe(200 + bytes.length);
  });

  it('tells what is no request, and which URL it cannot use', async () => {
    background = new Background(1 << 24);
    await expect(background.decode('GenerateRequest', [Buffer.from([0xff, 0xff])])).rejects.toThrow(
      MalformedRequest,
    );
    const bytes = GenerateRequest.encode(request([{ $case: 'url', value: 'https://x/y.png' }])).finish();
    await expect(background.decode('GenerateRequest', [bytes])).rejects.toMatchObject({
      name: 'RpcError',
      code: status.INVALID_ARGUMENT,
      reason: 'IMAGE_URL_SCHEME',
      metadata: { field: 'messages[0].parts[0].image.url', value: 'https' },
    });
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
    const bytes = (): Uint8Array =>
      CountTokensRequest.encode({ model: 'x'.repeat(600), messages: [] }).finish();
    const first = background.decode('CountTokensRequest', [bytes()]);
    await expect(background.decode('CountTokensRequest', [bytes()])).rejects.toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
    });
    await first;
    await background.decode('CountTokensRequest', [bytes()]);
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
    const long = 'two '.repeat(100_000); // more work than the thread gets done before it is ended
    const lost = expect(background.prompt(model, chat(long))).rejects.toThrow('ended');
    await background.close();
    await lost;
    expect(await background.prompt(model, chat('three'))).toEqual(model.prompt(chat('three')));
  });
});
