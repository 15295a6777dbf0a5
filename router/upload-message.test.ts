import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PutImageRequest } from '../gen/proto/internvl/v1/inference.ts';
import { decodeUploadMessage } from './upload-message.ts';

describe('decodeUploadMessage', () => {
  it('gives what the generated decoder gives, as a part of the message', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 0xffffffff }),
        fc.uint8Array({ maxLength: 300 }),
        (sizeBytes, chunk) => {
          const bytes = Buffer.from(
            PutImageRequest.encode({ sizeBytes, chunk: Buffer.from(chunk) }).finish(),
          );
          const message = decodeUploadMessage(bytes);
          expect(message).toEqual(PutImageRequest.decode(bytes));
          if (chunk.length > 0) expect(message.chunk.buffer).toBe(bytes.buffer);
        },
      ),
      { seed: 1, numRuns: 200 },
    );
  });

  it('skips fields to come, and takes the last of what comes twice', () => {
    const later = Buffer.from([0x1a, 2, 7, 7, 0x20, 5]); // fields 3 (bytes) and 4 (varint)
    const twice = [1, 2].map((sizeBytes) =>
      PutImageRequest.encode({ sizeBytes, chunk: Buffer.of(sizeBytes) }).finish(),
    );
    const bytes = Buffer.concat([later, ...twice, later]);
    expect(decodeUploadMessage(bytes)).toEqual(PutImageRequest.decode(bytes));
  });

  it.each([
    ['a chunk longer than the message', [0x12, 9, 1]],
    ['a varint without an end', [0x08, 0xff]],
    ['text', [...Buffer.from('GET / HTTP/1.1')]],
  ])('throws on %s', (_, bytes) => {
    expect(() => decodeUploadMessage(Buffer.from(bytes))).toThrow();
  });
});
