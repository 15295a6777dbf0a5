import { describe, expect, it } from 'vitest';
import { ConfigError, parseConfig } from './config.ts';

const BASE = ['--listen', '127.0.0.1:9000', '--replica', 'a=10.0.0.1:50051'];

const FOUND =
  '--namespace models --deployment-label demo --report-config-map demo-routers --pod-name demo-router-1 --pod-uid u-1'.split(
    ' ',
  );

describe('parseConfig', () => {
  it('fills the defaults in', () => {
    expect(parseConfig(BASE)).toEqual({
      listen: '127.0.0.1:9000',
      metricsListen: undefined,
      replicas: [{ name: 'a', address: '10.0.0.1:50051' }],
      discovery: undefined,
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

  it('reads where replicas are found', () => {
    const config = parseConfig(['--listen', 'h:1', ...FOUND]);
    expect(config.replicas).toEqual([]);
    expect(config.discovery).toEqual({
      namespace: 'models',
      deploymentLabel: 'demo',
      reportConfigMap: 'demo-routers',
      podName: 'demo-router-1',
      podUid: 'u-1',
    });
  });

  it.each([
    ['replicas both listed and found', [...BASE, ...FOUND], 'not both'],
    ['half of the flags', ['--listen', 'h:1', ...FOUND.slice(0, 2)], '--deployment-label is missing'],
    ['an empty flag', ['--listen', 'h:1', ...FOUND.slice(0, 8), '--pod-uid', ''], '--pod-uid is empty'],
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
