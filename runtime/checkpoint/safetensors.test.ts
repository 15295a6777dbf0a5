import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CheckpointError } from './checkpoint-error.ts';
import { LENGTH_BYTES, MAX_HEADER_BYTES, parseHeader, parseHeaderLength } from './safetensors.ts';

const FILE = 'model-00001-of-00002.safetensors';

function parse(header: unknown, dataBytes: number) {
  const text = typeof header === 'string' ? header : JSON.stringify(header);
  const json = new TextEncoder().encode(text);
  return parseHeader(json, LENGTH_BYTES + json.byteLength + dataBytes, FILE);
}

function lengthPrefix(length: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, length, true);
  return bytes;
}

describe('parseHeader', () => {
  it('gives dtype, shape and the offset from the start of the file', () => {
    const header = {
      __metadata__: { format: 'pt' },
      a: { dtype: 'BF16', shape: [2, 3], data_offsets: [0, 12] },
      scalar: { dtype: 'F32', shape: [], data_offsets: [12, 16] },
      empty: { dtype: 'F16', shape: [0, 5], data_offsets: [4, 4] },
    };
    const tensors = parse(header, 16);
    const start = LENGTH_BYTES + JSON.stringify(header).length;
    expect([...tensors.keys()]).toEqual(['a', 'scalar', 'empty']);
    expect(tensors.get('a')).toEqual({ dtype: 'BF16', shape: [2, 3], byteOffset: start, byteLength: 12 });
    expect(tensors.get('scalar')).toEqual({
      dtype: 'F32',
      shape: [],
      byteOffset: start + 12,
      byteLength: 4,
    });
  });

  const tensor = (change: object) => ({
    'a.weight': { dtype: 'F32', shape: [2], data_offsets: [0, 8], ...change },
  });
  it.each<[string, unknown, number, string]>([
    ['text that is not JSON', '{"a": ', 0, 'not JSON'],
    ['a NaN header', '{"a.weight": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 4]}}', 4, 'not JSON'],
    ['an array', [], 0, 'not a JSON object'],
    ['an entry that is no object', { 'a.weight': 3 }, 0, 'tensor a.weight has no entry object'],
    ['an unknown dtype', tensor({ dtype: 'F4' }), 8, 'tensor a.weight has the unknown dtype "F4"'],
    ['a dtype of the prototype', tensor({ dtype: 'toString' }), 8, 'unknown dtype "toString"'],
    ['a negative size', tensor({ shape: [-2] }), 8, 'impossible shape [-2]'],
    ['a fractional size', tensor({ shape: [1.5] }), 8, 'impossible shape [1.5]'],
    ['a huge size', tensor({ shape: [1e300] }), 8, 'impossible shape'],
    ['a product beyond 2^53', tensor({ shape: [2 ** 40, 2 ** 40] }), 8, 'a.weight of shape'],
    ['a missing shape', tensor({ shape: undefined }), 8, 'impossible shape'],
    ['missing offsets', tensor({ data_offsets: undefined }), 8, 'impossible data_offsets'],
    ['reversed offsets', tensor({ data_offsets: [8, 0] }), 8, 'ends (0) before it starts (8)'],
    [
      'an offset past the end',
      tensor({ data_offsets: [4, 12] }),
      8,
      'ends at byte 12 of the data, but the file has only 8',
    ],
    [
      'offsets that do not fit the shape',
      tensor({ shape: [3] }),
      8,
      'needs 12 bytes, but its offsets span 8',
    ],
    [
      'overlapping tensors',
      { ...tensor({}), b: { dtype: 'F32', shape: [2], data_offsets: [4, 12] } },
      12,
      'tensor b overlaps tensor a.weight',
    ],
  ])('refuses %s', (_name, header, dataBytes, message) => {
    expect(() => parse(header, dataBytes)).toThrow(CheckpointError);
    expect(() => parse(header, dataBytes)).toThrow(message);
    expect(() => parse(header, dataBytes)).toThrow(FILE);
  });

  it('answers any bytes with tensors inside the file or a CheckpointError', () => {
    const entry = fc.record({
      dtype: fc.constantFrom('F32', 'BF16', 'X'),
      shape: fc.array(fc.oneof(fc.nat(4), fc.double(), fc.constant(null)), { maxLength: 3 }),
      data_offsets: fc.array(fc.oneof(fc.nat(64), fc.integer(), fc.double()), { maxLength: 3 }),
    });
    const header = fc.oneof(
      fc.json(),
      fc.dictionary(fc.string(), entry).map((value) => JSON.stringify(value)),
    );
    fc.assert(
      fc.property(header, fc.nat(64), (text, dataBytes) => {
        const json = new TextEncoder().encode(text);
        const fileBytes = LENGTH_BYTES + json.byteLength + dataBytes;
        let tensors;
        try {
          tensors = parseHeader(json, fileBytes, FILE);
        } catch (error) {
          expect(error).toBeInstanceOf(CheckpointError);
          return;
        }
        for (const { byteOffset, byteLength } of tensors.values()) {
          expect(byteOffset).toBeGreaterThanOrEqual(LENGTH_BYTES + json.byteLength);
          expect(byteOffset + byteLength).toBeLessThanOrEqual(fileBytes);
        }
      }),
      { seed: 1 },
    );
  });
});

describe('parseHeaderLength', () => {
  it.each<[string, Uint8Array, number, string]>([
    ['an empty file', new Uint8Array(0), 0, 'is 0 bytes long, too short'],
    ['a header over the limit', lengthPrefix(BigInt(MAX_HEADER_BYTES) + 1n), 2 ** 40, 'at most 100000000'],
    ['a length of 2^64 - 1', lengthPrefix(2n ** 64n - 1n), 100, 'claims a header'],
    ['a header that the file does not have', lengthPrefix(50n), 40, 'is truncated'],
  ])('refuses %s', (_name, prefix, fileBytes, message) => {
    expect(() => parseHeaderLength(prefix, fileBytes, FILE)).toThrow(message);
  });

  it('reads the length', () => {
    expect(parseHeaderLength(lengthPrefix(50n), 58, FILE)).toBe(50);
  });
});
