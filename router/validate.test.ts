import { status } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import type { Sampling } from '../gen/proto/internvl/v1/generation.ts';
import { Role, type GenerateRequest, type Image, type Message } from '../gen/proto/internvl/v1/inference.ts';
import { RpcError } from '../rpc/status.ts';
import { checkContext, checkMessages, checkModel, checkRequest, type RequestLimits } from './validate.ts';

const LIMITS: RequestLimits = {
  servedName: 'internvl',
  maxModelLength: 100,
  vocabSize: 1000,
  maxImages: 2,
  maxImageBytes: 10,
};
const SAMPLING: Sampling = { stop: [], stopTokenIds: [], ignoreEos: false };

function request(options: Partial<GenerateRequest>): GenerateRequest {
  return {
    requestId: '',
    model: '',
    messages: [],
    sampling: undefined,
    output: undefined,
    priority: 0,
    affinityKey: '',
    cacheSalt: '',
    ...options,
  };
}

function refusal(run: () => unknown): RpcError {
  try {
    run();
  } catch (error) {
    if (error instanceof RpcError) return error;
    throw error;
  }
  throw new Error('was not refused');
}

const text = (role: Role, value: string): Message => ({ role, parts: [{ part: { $case: 'text', value } }] });
const picture = (source: Image['source'], role: Role = Role.USER): Message => ({
  role,
  parts: [{ part: { $case: 'image', value: { source } } }],
});
const data = (size: number): Image['source'] => ({ $case: 'data', value: Buffer.alloc(size, 1) });
const { SYSTEM, USER, ASSISTANT } = Role;

describe('checkRequest', () => {
  it.each<[string, Partial<Sampling>, string]>([
    ['a negative temperature', { temperature: -0.1 }, 'sampling.temperature'],
    ['a NaN temperature', { temperature: NaN }, 'sampling.temperature'],
    ['an infinite temperature', { temperature: Infinity }, 'sampling.temperature'],
    ['top_p 0', { topP: 0 }, 'sampling.top_p'],
    ['top_p above 1', { topP: 1.01 }, 'sampling.top_p'],
    ['repetition_penalty 0', { repetitionPenalty: 0 }, 'sampling.repetition_penalty'],
    ['max_tokens 0', { maxTokens: 0 }, 'sampling.max_tokens'],
    ['min_tokens above max_tokens', { minTokens: 9, maxTokens: 8 }, 'sampling.min_tokens'],
    ['min_tokens above the context', { minTokens: 101 }, 'sampling.min_tokens'],
    ['17 stop strings', { stop: Array.from({ length: 17 }, () => 'x') }, 'sampling.stop'],
    ['an empty stop string', { stop: ['a', ''] }, 'sampling.stop[1]'],
    ['a stop string of novel length', { stop: ['a'.repeat(1025)] }, 'sampling.stop[0]'],
    ['65 stop tokens', { stopTokenIds: Array.from({ length: 65 }, () => 1) }, 'sampling.stop_token_ids'],
    ['a stop token outside the vocabulary', { stopTokenIds: [5, 1000] }, 'sampling.stop_token_ids[1]'],
  ])('refuses %s, naming it', (_, sampling, field) => {
    const error = refusal(() => checkRequest(request({ sampling: { ...SAMPLING, ...sampling } }), LIMITS));
    expect(error.code).toBe(status.INVALID_ARGUMENT);
    expect(error.metadata).toMatchObject({ field, value: expect.any(String), limit: expect.any(String) });
    expect(error.message).toContain(field);
  });

  it.each<[string, Partial<GenerateRequest>, string]>([
    ['a long request id', { requestId: 'x'.repeat(129) }, 'request_id'],
    ['a long affinity key', { affinityKey: 'x'.repeat(257) }, 'affinity_key'],
    ['a long cache salt', { cacheSalt: 'x'.repeat(257) }, 'cache_salt'],
    ['too many logprobs', { output: { logprobs: 21, promptTokenIds: false } }, 'output.logprobs'],
    ['an unknown priority', { priority: 9 as GenerateRequest['priority'] }, 'priority'],
  ])('refuses %s', (_, options, field) => {
    expect(refusal(() => checkRequest(request(options), LIMITS)).metadata['field']).toBe(field);
  });

  it('takes the extremes that are allowed', () => {
    const sampling: Sampling = {
      ...SAMPLING,
      temperature: 0,
      topP: 1,
      topK: 0,
      repetitionPenalty: 0.01,
      maxTokens: 1,
      minTokens: 1,
      stop: ['a'],
      stopTokenIds: [999],
    };
    expect(() =>
      checkRequest(
        request({ model: 'internvl', sampling, output: { logprobs: 20, promptTokenIds: true } }),
        LIMITS,
      ),
    ).not.toThrow();
    expect(() => checkRequest(request({}), LIMITS)).not.toThrow();
  });

  it('names what is served when the model is another', () => {
    const error = refusal(() => checkModel('gpt', 'internvl'));
    expect(error).toMatchObject({ code: status.NOT_FOUND, reason: 'MODEL_NOT_FOUND' });
    expect(error.message).toContain("'internvl'");
  });
});

describe('checkMessages', () => {
  it.each<[string, Message[], string, string]>([
    ['none', [], 'messages', 'INVALID_FIELD'],
    ['only a system message', [text(SYSTEM, 'be brief')], 'messages', 'ROLE_ORDER'],
    ['an answer at the end', [text(USER, 'a'), text(ASSISTANT, 'b')], 'messages', 'ROLE_ORDER'],
    ['an answer at the start', [text(ASSISTANT, 'b'), text(USER, 'a')], 'messages[0].role', 'ROLE_ORDER'],
    ['two questions in a row', [text(USER, 'a'), text(USER, 'b')], 'messages[1].role', 'ROLE_ORDER'],
    [
      'a system message in the middle',
      [text(USER, 'a'), text(SYSTEM, 'b'), text(USER, 'c')],
      'messages[1].role',
      'ROLE_ORDER',
    ],
    [
      'two system messages',
      [text(SYSTEM, 'a'), text(SYSTEM, 'b'), text(USER, 'c')],
      'messages[1].role',
      'ROLE_ORDER',
    ],
    ['no role', [text(Role.UNSPECIFIED, 'a')], 'messages[0].role', 'ROLE_ORDER'],
    ['a role of the future', [text(7 as Role, 'a')], 'messages[0].role', 'ROLE_ORDER'],
    ['no parts', [{ role: USER, parts: [] }], 'messages[0]', 'EMPTY_MESSAGE'],
    ['empty text', [text(USER, '')], 'messages[0]', 'EMPTY_MESSAGE'],
    [
      'an empty answer in between',
      [text(USER, 'a'), text(ASSISTANT, ''), text(USER, 'b')],
      'messages[1]',
      'EMPTY_MESSAGE',
    ],
    [
      'a part that is nothing',
      [{ role: USER, parts: [{ part: undefined }] }],
      'messages[0].parts[0]',
      'INVALID_FIELD',
    ],
    [
      'a picture in a system message',
      [picture(data(1), SYSTEM), text(USER, 'a')],
      'messages[0].parts[0]',
      'INVALID_FIELD',
    ],
    ['a picture without a source', [picture(undefined)], 'messages[0].parts[0].image', 'INVALID_FIELD'],
    ['an empty picture', [picture(data(0))], 'messages[0].parts[0].image', 'EMPTY_IMAGE'],
    ['a picture that is too large', [picture(data(11))], 'messages[0].parts[0].image', 'IMAGE_TOO_LARGE'],
    [
      'a data: URL that is too large',
      [picture({ $case: 'url', value: `data:a/b;base64,${'A'.repeat(20)}` })],
      'messages[0].parts[0].image',
      'IMAGE_TOO_LARGE',
    ],
    [
      'a data: URL without base64',
      [picture({ $case: 'url', value: 'data:text/plain,hi' })],
      'messages[0].parts[0].image.url',
      'INVALID_FIELD',
    ],
    [
      'a data: URL with broken base64',
      [picture({ $case: 'url', value: 'data:a/b;base64,!!!!' })],
      'messages[0].parts[0].image.url',
      'INVALID_FIELD',
    ],
    [
      'a data: URL without a comma',
      [picture({ $case: 'url', value: 'data:a/b;base64' })],
      'messages[0].parts[0].image.url',
      'INVALID_FIELD',
    ],
    [
      'an https URL',
      [picture({ $case: 'url', value: 'HTTPS://example.com/x.png' })],
      'messages[0].parts[0].image.url',
      'IMAGE_URL_SCHEME',
    ],
    [
      'a bare path',
      [picture({ $case: 'url', value: '/etc/passwd' })],
      'messages[0].parts[0].image.url',
      'IMAGE_URL_SCHEME',
    ],
    [
      'an upper-case hash',
      [picture({ $case: 'hash', value: 'A'.repeat(64) })],
      'messages[0].parts[0].image.hash',
      'INVALID_FIELD',
    ],
    [
      'three pictures',
      [
        {
          role: USER,
          parts: [data(1), data(1), data(1)].map((source) => ({
            part: { $case: 'image', value: { source } },
          })),
        },
      ],
      'messages',
      'TOO_MANY_IMAGES',
    ],
    ['more text than any context holds', [text(USER, 'x'.repeat(6401))], 'messages', 'PROMPT_TOO_LONG'],
  ])('refuses %s', (_, messages, field, reason) => {
    const error = refusal(() => checkMessages(messages, LIMITS));
    expect(error).toMatchObject({ code: status.INVALID_ARGUMENT, reason });
    expect(error.metadata).toMatchObject({ field, value: expect.any(String), limit: expect.any(String) });
  });

  it('gives roles, texts and pictures in their order', () => {
    const messages = [
      text(SYSTEM, ''),
      {
        role: USER,
        parts: [
          picture({ $case: 'url', value: 'data:image/png;base64,AQID' }).parts[0]!,
          text(USER, 'what?').parts[0]!,
        ],
      },
      text(ASSISTANT, 'a cat'),
      picture({ $case: 'hash', value: 'a'.repeat(64) }),
    ];
    expect(checkMessages(messages, LIMITS)).toEqual([
      { role: 'system', parts: [{ text: '' }] },
      { role: 'user', parts: [{ picture: { data: Buffer.from([1, 2, 3]) } }, { text: 'what?' }] },
      { role: 'assistant', parts: [{ text: 'a cat' }] },
      { role: 'user', parts: [{ picture: { hash: 'a'.repeat(64) } }] },
    ]);
  });
});

describe('checkContext', () => {
  it.each([
    [40, undefined, undefined, 60],
    [40, 60, undefined, 60],
    [99, 1, 1, 1],
    [40, 5, 5, 5],
  ])(
    'a prompt of %d tokens with max_tokens %s and min_tokens %s may make %d',
    (prompt, maxTokens, minTokens, expected) => {
      expect(checkContext(prompt, { ...SAMPLING, maxTokens, minTokens }, LIMITS)).toBe(expected);
    },
  );

  it('answers with at most 512 tokens by default', () => {
    expect(checkContext(40, undefined, { ...LIMITS, maxModelLength: 4096 })).toBe(512);
  });

  it.each([
    ['a prompt that fills the context', 100, undefined, 'no room', '100'],
    ['prompt and answer beyond it', 40, { ...SAMPLING, maxTokens: 61 }, '101', '100'],
    ['more tokens asked for than fit', 90, { ...SAMPLING, minTokens: 11 }, 'min_tokens', '10'],
  ])('refuses %s', (_, prompt, sampling, message, limit) => {
    const error = refusal(() => checkContext(prompt, sampling, LIMITS));
    expect(error.message).toContain(message);
    expect(error.metadata['limit']).toBe(limit);
  });
});
