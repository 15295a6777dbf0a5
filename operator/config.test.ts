import { describe, expect, it } from 'vitest';
import { ConfigError, parseConfig } from './config.ts';

const images = ['--runtime-image', 'r:1', '--router-image', 'o:1'];

describe('parseConfig', () => {
  it('takes defaults for everything but the images', () => {
    const config = parseConfig(images, {});
    expect(config).toMatchObject({
      namespaces: [],
      concurrency: 16,
      identity: 'internvl-operator',
      metricsListen: '0.0.0.0:8080',
      healthListen: '0.0.0.0:8081',
      leaderElection: { enabled: true, namespace: 'default', leaseDurationMs: 15_000 },
      plan: { runtimeImage: 'r:1', routerImage: 'o:1', placementTimeoutMs: 30_000, networkPolicy: true },
    });
    expect(Object.isFrozen(config)).toBe(true);
  });

  it('takes the identity and the namespace of the Lease from the pod', () => {
    const config = parseConfig(images, { POD_NAME: 'op-0', POD_NAMESPACE: 'serving' });
    expect(config.identity).toBe('op-0');
    expect(config.leaderElection.namespace).toBe('serving');
  });

  it('watches the given namespaces, each once', () => {
    const args = ['--namespace', 'a', '--namespace', 'b', '--namespace', 'a'];
    expect(parseConfig([...images, ...args], {}).namespaces).toEqual(['a', 'b']);
  });

  it('switches listeners off', () => {
    const config = parseConfig([...images, '--metrics-listen', '', '--health-listen', ''], {});
    expect([config.metricsListen, config.healthListen]).toEqual([undefined, undefined]);
  });

  it('names all problems at once', () => {
    const args = [
      '--concurrency',
      '0',
      '--log-level',
      'loud',
      '--namespace',
      'Not_One',
      '--health-listen',
      'x',
    ];
    const problems = problemsOf(args);
    expect(problems).toEqual([
      expect.stringContaining("--namespace is 'Not_One'"),
      expect.stringContaining('--runtime-image IMAGE is missing'),
      expect.stringContaining('--router-image IMAGE is missing'),
      expect.stringContaining("--concurrency is '0'"),
      expect.stringContaining('--health-listen'),
      expect.stringContaining("--log-level is 'loud'"),
    ]);
  });

  it.each([
    [['--renew-deadline-ms', '15000'], '--renew-deadline-ms (15000) must be shorter'],
    [['--retry-period-ms', '10000'], '--retry-period-ms (10000) must be shorter'],
    [['--lease-duration-ms', '15500'], 'whole seconds'],
    [['--leader-elect', 'maybe'], '--leader-elect'],
    [['--lease-name', 'A B'], '--lease-name'],
    [['--no-such-flag'], '--no-such-flag'],
  ])('refuses %j', (args, message) => {
    expect(problemsOf([...images, ...args]).join('\n')).toContain(message);
  });
});

function problemsOf(args: readonly string[]): readonly string[] {
  try {
    parseConfig(args, {});
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}
