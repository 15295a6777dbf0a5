import { describe, expect, it } from 'vitest';
import { NOTHING_OBSERVED } from '../operator/observed.ts';
import { plan } from '../operator/plan.ts';
import { aDeployment, PLAN_CONFIG } from '../test/support/deployment.ts';
import { localise, portsNeeded, type LocalProcess } from './localise.ts';

function planned(spec: Record<string, unknown>) {
  const deployment = aDeployment({ model: { source: 'file:///models/de,mo=1' }, ...spec });
  return plan(deployment, NOTHING_OBSERVED, PLAN_CONFIG, 0);
}

function local(spec: Record<string, unknown>, cores = 8) {
  const p = planned(spec);
  const ports = Array.from({ length: portsNeeded(p) }, (_, index) => 20_000 + index);
  return localise(p, { ports, routerGrpc: '127.0.0.1:50051', routerMetrics: '127.0.0.1:19999', cores });
}

function flag(process: LocalProcess | undefined, name: string): string | undefined {
  const at = process?.args.indexOf(`--${name}`) ?? -1;
  return at < 0 ? undefined : process?.args[at + 1];
}

describe('localise', () => {
  it.each(['PodPerRank', 'SinglePod'])(
    'gives each rank ports of its own and tells all ranks of them (%s)',
    (topology) => {
      const { replicas } = local({ replicas: 2, tensorParallel: { size: 2, topology } });
      const second = replicas[1]?.processes ?? [];
      expect(second.map(({ grpc, metrics }) => [grpc, metrics])).toEqual([
        ['127.0.0.1:20004', '127.0.0.1:20005'],
        ['127.0.0.1:20006', '127.0.0.1:20007'],
      ]);
      for (const process of second) {
        expect(flag(process, 'ranks')).toBe('127.0.0.1:20004,127.0.0.1:20006');
        expect(flag(process, 'listen')).toBe(process.grpc);
        expect(flag(process, 'metrics-listen')).toBe(process.metrics);
        expect(flag(process, 'collective-host')).toBe('127.0.0.1');
        expect(process.program).toBe('runtime/main.ts');
      }
    },
  );

  it('leaves no cluster address, mount path or variable behind', () => {
    const { router, replicas } = local({ replicas: 2, tensorParallel: { size: 4 } });
    for (const { args } of [router, ...replicas].flatMap(({ processes }) => processes))
      expect(args.join(' ')).not.toMatch(/\.svc|0\.0\.0\.0|\$\(|\/model /);
  });

  it('points the router at rank 0 of every replica', () => {
    const { router, replicas } = local({ replicas: 2, tensorParallel: { size: 2 } });
    const args = router.processes[0]?.args ?? [];
    expect(args.filter((_, index) => args[index - 1] === '--replica')).toEqual([
      `${replicas[0]?.name}=127.0.0.1:20000`,
      `${replicas[1]?.name}=127.0.0.1:20004`,
    ]);
    expect(flag(router.processes[0], 'listen')).toBe('127.0.0.1:50051');
    expect(flag(router.processes[0], 'metrics-listen')).toBe('127.0.0.1:19999');
  });

  it("replaces the mount by the model's directory, whatever is in its name", () => {
    expect(flag(local({}).replicas[0]?.processes[0], 'model')).toBe('/models/de,mo=1');
  });

  it.each([
    [8, 1, 2, '4', '0.15'],
    [2, 2, 2, '1', '0.075'],
    [1, 1, 1, '1', '0.3'],
  ])('shares %i cores and the memory among %i x %i ranks', (cores, replicas, size, threads, fraction) => {
    const [rank] = local({ replicas, tensorParallel: { size } }, cores).replicas[0]?.processes ?? [];
    expect(flag(rank, 'threads')).toBe(threads);
    expect(flag(rank, 'kv-cache-fraction')).toBe(fraction);
  });

  it('divides a fraction that is given, and keeps bytes', () => {
    const [part] =
      local({ tensorParallel: { size: 2 }, engine: { kvCache: { fraction: 0.5 } } }).replicas[0]?.processes ??
      [];
    expect(part?.args.filter((arg) => arg === '--kv-cache-fraction')).toHaveLength(1);
    expect(flag(part, 'kv-cache-fraction')).toBe('0.25');
    const [fixed] = local({ engine: { kvCache: { bytes: '1Mi' } } }).replicas[0]?.processes ?? [];
    expect(flag(fixed, 'kv-cache-bytes')).toBe('1048576');
    expect(flag(fixed, 'kv-cache-fraction')).toBeUndefined();
  });

  it('keeps keys and values as asked', () => {
    const kept = (kvCache: object) =>
      flag(local({ engine: { kvCache } }).replicas[0]?.processes[0], 'kv-cache-dtype');
    expect(kept({ dtype: 'fp8' })).toBe('fp8');
    // What an image from before the flag would not know is not given where it says nothing.
    expect(kept({ dtype: 'auto' })).toBeUndefined();
    expect(kept({ fraction: 0.5 })).toBeUndefined();
  });

  it('refuses too few ports', () => {
    const options = { ports: [1], routerGrpc: 'a:1', routerMetrics: 'a:2', cores: 1 };
    expect(() => localise(planned({}), options)).toThrow(RangeError);
  });
});
