import { describe, expect, it } from 'vitest';
import { advance, parseProcessEvent, percentLoaded, STARTING, type ProcessProgress } from './progress.ts';

describe('parseProcessEvent', () => {
  it.each([
    [
      '{"message":"loading","rank":0,"loadedBytes":5,"totalBytes":10}',
      { kind: 'loading', loadedBytes: 5, totalBytes: 10 },
    ],
    ['{"message":"loaded","rank":0,"seconds":1,"bytes":10}', { kind: 'loaded' }],
    ['{"message":"listening","rank":0,"address":"a:1"}', { kind: 'listening' }],
    ['{"message":"serving","rank":0,"address":"a:1"}', { kind: 'serving' }],
    ['{"message":"replica ready","replica":"r"}', { kind: 'replica-ready', replica: 'r' }],
    [
      '{"message":"replica lost","replica":"r","err":{"message":"gone"}}',
      { kind: 'replica-lost', replica: 'r', problem: 'gone' },
    ],
    [
      '{"message":"fatal","rank":0,"code":2,"err":"no config.json"}',
      { kind: 'fatal', problem: 'no config.json' },
    ],
    [
      '{"message":"loading","loadedBytes":"x","totalBytes":-1}',
      { kind: 'loading', loadedBytes: 0, totalBytes: 0 },
    ],
  ])('reads %s', (line, event) => expect(parseProcessEvent(line)).toEqual(event));

  it.each(['', 'Error: x', '{', '{"message":"step"}', '{}', 'null', '[1]', '{"message":5}'])(
    'passes over %s',
    (line) => {
      expect(parseProcessEvent(line)).toBeUndefined();
    },
  );
});

describe('percentLoaded', () => {
  const loading = (loadedBytes: number, totalBytes: number): ProcessProgress => ({
    phase: 'loading',
    loadedBytes,
    totalBytes,
  });
  const loaded = advance(loading(10, 10), { kind: 'loaded' });

  it.each([
    ['nothing has started', [STARTING, STARTING], 0],
    ['half of all bytes are there', [loading(5, 10), loading(5, 10)], 50],
    ['all bytes are there but not checked', [loading(10, 10), loading(10, 10)], 99],
    ['one rank is done', [loaded, loading(0, 10)], 50],
    ['a rank has not begun', [loading(8, 8), STARTING], 50],
    ['all ranks are done', [loaded, advance(loaded, { kind: 'serving' })], 100],
  ])('when %s', (_, ranks, percent) => expect(percentLoaded(ranks)).toBe(percent));
});
