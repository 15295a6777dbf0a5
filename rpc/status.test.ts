import { Metadata, status } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { RpcError, fromServiceError, parseDetails, toServiceError } from './status.ts';

describe('toServiceError', () => {
  it('carries reason, facts and retry delay to parseDetails', () => {
    const error = toServiceError(
      new RpcError(status.RESOURCE_EXHAUSTED, 'QUEUE_FULL', 'the queue is full', {
        metadata: { limit: '1000' },
        retryAfterMs: 1500.5,
      }),
    );
    expect(error.code).toBe(status.RESOURCE_EXHAUSTED);
    expect(error.details).toBe('the queue is full');
    expect(parseDetails(error)).toEqual({
      reason: 'QUEUE_FULL',
      metadata: { limit: '1000' },
      retryAfterMs: 1500.5,
    });
    expect(fromServiceError(error)).toMatchObject({ code: 8, reason: 'QUEUE_FULL', retryAfterMs: 1500.5 });
  });

  it('tells the caller nothing of an unexpected error but an id', () => {
    const seen: [string, unknown][] = [];
    const cause = new Error('secret path /etc');
    const error = toServiceError(cause, (id, err) => seen.push([id, err]));
    expect(error.code).toBe(status.INTERNAL);
    expect(error.details).not.toContain('secret');
    expect(seen).toHaveLength(1);
    expect(seen[0]![1]).toBe(cause);
    expect(error.details).toContain(seen[0]![0]);
  });

  it('makes lone surrogates and long messages fit for a header', () => {
    const error = toServiceError(new RpcError(status.NOT_FOUND, 'X', `\ud800${'a'.repeat(5000)}`));
    expect(() => encodeURI(error.details)).not.toThrow();
    expect(error.details.length).toBeLessThanOrEqual(1000);
  });
});

describe('parseDetails', () => {
  it('is empty without details or with bytes that do not parse', () => {
    const empty = { reason: undefined, metadata: {}, retryAfterMs: undefined };
    expect(parseDetails(undefined)).toEqual(empty);
    expect(parseDetails(new Metadata())).toEqual(empty);
    const garbage = new Metadata();
    garbage.set('grpc-status-details-bin', Buffer.from([0xff, 0xff, 0xff]));
    expect(parseDetails(garbage)).toEqual(empty);
  });
});
