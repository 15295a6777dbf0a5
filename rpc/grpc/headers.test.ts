import { describe, expect, it } from 'vitest';
import { callHead, requestMetadata } from './request-metadata.ts';
import { percentEncode } from './response-headers.ts';
import { parseTimeout } from './timeout.ts';

describe('parseTimeout', () => {
  it.each([
    ['1H', 3_600_000],
    ['2M', 120_000],
    ['3S', 3_000],
    ['250m', 250],
    ['1500u', 1.5],
    ['99999999n', 99.999999],
    ['0m', 0],
    ['123456789m', undefined],
    ['-1S', undefined],
    ['1', undefined],
    ['S', undefined],
    ['', undefined],
    ['1x', undefined],
  ])('reads %s', (text, ms) => {
    if (ms === undefined) expect(parseTimeout(text)).toBeUndefined();
    else expect(parseTimeout(text)).toBeCloseTo(ms);
  });
});

it('percentEncode keeps printable ASCII and nothing else', () => {
  expect(percentEncode('a b~ 100% ü\n😀')).toBe('a b~ 100%25 %C3%BC%0A%F0%9F%98%80');
  expect(percentEncode('\ud800')).toBe('%EF%BF%BD');
});

it('a request tells gRPC what is its own, and its handler the rest', () => {
  const fields = [
    ':method',
    'POST',
    'te',
    'trailers',
    'content-type',
    'application/grpc',
    'grpc-timeout',
    '5S',

    'grpc-encoding',
    'gzip',
    'user-agent',
    'x',
    'key',
    'a',
    'key',
    'b',
    'data-bin',
    'AAE=, /w',
    'bad key',
    'x',
  ];
  expect(callHead(fields)).toEqual({ contentType: 'application/grpc', timeoutMs: 5_000, encoding: 'gzip' });
  const metadata = requestMetadata(fields);
  expect(metadata.toJSON()).toEqual({
    'user-agent': ['x'],
    key: ['a', 'b'],
    'data-bin': [Buffer.from([0, 1]), Buffer.from([255])],
  });
});
