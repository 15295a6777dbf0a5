import { describe, expect, it } from 'vitest';
import { CountTokensRequest, InferenceService } from '../gen/proto/internvl/v1/inference.ts';
import { LargeRequest, largeRequests } from './large-request.ts';

const method = largeRequests(InferenceService.countTokens);

/** A request with a name of so many letters, in two pieces. */
function inPieces(letters: number): Buffer[] {
  const request = { model: 'x'.repeat(letters), messages: [] };
  const bytes = Buffer.from(CountTokensRequest.encode(request).finish());
  return [bytes.subarray(0, letters / 2), bytes.subarray(letters / 2)];
}

describe('largeRequests', () => {
  it('decodes a small request wherever it was cut', () => {
    expect(method.requestFromPieces(inPieces(300_000))).toEqual({ model: 'x'.repeat(300_000), messages: [] });
  });

  it('leaves the pieces of a large one where they are', () => {
    const pieces = inPieces(600_000);
    const request = method.requestFromPieces(pieces);
    expect(request).toBeInstanceOf(LargeRequest);
    expect((request as LargeRequest).pieces).toBe(pieces);
  });
});
