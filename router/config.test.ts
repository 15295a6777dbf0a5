import { describe, expect, it } from 'vitest';
import { ConfigError, parseConfig } from './config.ts';

const BASE = ['--listen', '127.0.0.1:9000', '--replica', 'a=10.0.0.1:50051'];

describe('parseConfig', () => {
  it('fills the defaults in', () => {
    expect(parseConfig(BASE)).toEqual({
      listen: '127.0.0.1:9000',
      metricsListen: undefined,
      replicas: [{ name: 'a', address: '10.0.0.1:50051' }],
      servedName: undefined,
      queueMaxRequests: 1000,
      queueMaxBytes: 268_435_456,
      queueMaxWaitMs: 60_000,
      maxMessageBytes: 33_554_432,
      maxImages: undefined,
      drainTimeoutMs: 30_000,
      logLevel: 'info',
      logFormat: 'json',
    });
  });

  it('reads every flag', () => {
    const config = parseConfig([
      ...BASE,
      '--replica',
      'b=[::1]:7',
      '--served-name',
      'm',
      '--metrics-listen',
      '127.0.0.1:0',
      '--max-images',
      '0',
      '--queue-max-wait-ms',
      '5',
    ]);
    expect(config).toMatchObject({
      servedName: 'm',
      metricsListen: '127.0.0.1:0',
      maxImages: 0,
      queueMaxWaitMs: 5,
    });
    expect(config.replicas[1]).toEqual({ name: 'b', address: '[::1]:7' });
  });

  it.each([
    ['no address', ['--replica', 'a=h:1'], '--listen'],
    ['no replica', ['--listen', 'h:1'], '--replica'],
    ['a replica without a name', [...BASE, '--replica', 'h:1'], 'NAME=HOST:PORT'],
    ['a replica with a bad address', [...BASE, '--replica', 'b=h'], '--replica b'],
    ['a replica twice', [...BASE, '--replica', 'a=h:1'], 'twice'],
    ['a word for a number', [...BASE, '--queue-max-requests', 'many'], '--queue-max-requests'],
    ['zero requests', [...BASE, '--queue-max-requests', '0'], 'at least 1'],
    ['an unknown level', [...BASE, '--log-level', 'loud'], 'error, warn, info, debug'],
    ['an unknown flag', [...BASE, '--fast'], '--fast'],
  ])('refuses %s', (_, args, message) => {
    expect(() => parseConfig(args)).toThrow(ConfigError);
    expect(() => parseConfig(args)).toThrow(message);
  });
});
