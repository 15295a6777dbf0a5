import { array, assert, constant, nat, property, record, string } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GenerateEvent, type Delta } from '../gen/proto/internvl/v1/inference.ts';
import { encodedDelta, encodeEvent, eventEncoder, mergeDeltas } from './events.ts';

const generated = (value: Delta): Buffer =>
  Buffer.from(GenerateEvent.encode({ event: { $case: 'delta', value } }).finish());

const written = (delta: Delta): Buffer => {
  const event = encodedDelta(delta);
  const bytes = Buffer.alloc(eventEncoder.byteLength(event) + 2, 0xee);
  eventEncoder.write(event, bytes, 1);
  expect([bytes[0], bytes.at(-1)]).toEqual([0xee, 0xee]);
  return bytes.subarray(1, -1);
};

describe('eventEncoder', () => {
  it.each<[string, Delta]>([
    ['one token', { text: ' the', tokenIds: [562], logprobs: [] }],
    ['a character that is not complete', { text: '', tokenIds: [231], logprobs: [] }],
    ['the end of a held-back text', { text: 'stop', tokenIds: [], logprobs: [] }],
    ['nothing', { text: '', tokenIds: [], logprobs: [] }],
    ['ids of every length', { text: 'é😀', tokenIds: [0, 127, 128, 16_384, 0xffff_ffff], logprobs: [] }],
    ['lengths of two bytes', { text: 'x'.repeat(300), tokenIds: Array(200).fill(64_000), logprobs: [] }],
    [
      'log-probabilities',
      {
        text: 'a',
        tokenIds: [1],
        logprobs: [{ tokenId: 1, logprob: -0.5, top: [{ tokenId: 2, logprob: -1 }] }],
      },
    ],
  ])('writes %s as the generated code does', (_, delta) => {
    expect(written(delta).equals(generated(delta))).toBe(true);
  });

  it('writes any text and ids as the generated code does', () => {
    const deltas = record<Delta>({
      text: string({ unit: 'binary', maxLength: 300 }),
      tokenIds: array(nat({ max: 0xffff_ffff })),
      logprobs: constant([]),
    });
    assert(property(deltas, (delta) => written(delta).equals(generated(delta))));
  }, 30_000);
});

describe('mergeDeltas', () => {
  it('puts one behind the other', () => {
    const last: Delta = { text: 'on', tokenIds: [1], logprobs: [] };
    expect(mergeDeltas(last, { text: 'ce', tokenIds: [2, 3], logprobs: [] })).toBe(true);
    expect(last).toEqual({ text: 'once', tokenIds: [1, 2, 3], logprobs: [] });
  });

  it('leaves bytes alone', () => {
    const delta: Delta = { text: 'a', tokenIds: [1], logprobs: [] };
    const bytes = encodeEvent({ $case: 'delta', value: delta });
    expect(mergeDeltas(bytes, delta)).toBe(false);
    expect(mergeDeltas(delta, bytes)).toBe(false);
    expect(delta).toEqual({ text: 'a', tokenIds: [1], logprobs: [] });
  });
});
