import { describe, expect, it } from 'vitest';
import { ConfigError, environmentFlags, parseConfig } from './config.ts';

const machine = { cores: 8 };

function problems(argv: readonly string[]): readonly string[] {
  try {
    parseConfig(argv, machine);
  } catch (err) {
    if (err instanceof ConfigError) return err.problems;
    throw err;
  }
  return [];
}

describe('parseConfig', () => {
  it('fills in defaults', () => {
    const config = parseConfig(['--model', '/models/tiny/'], machine);
    expect(config).toMatchObject({
      servedName: 'tiny',
      rank: 0,
      worldSize: 1,
      threads: 8,
      device: { kind: 'cpu', index: 0 },
      loadFormat: 'auto',
      dtype: 'bfloat16',
      kvCache: { fraction: 0.3 },
      kvCacheDtype: 'auto',
      metricsListen: undefined,
      hangTimeoutMs: 4000,
      prefixCache: true,
      encoderCacheBytes: 256 << 20,
      stepTargetMs: 100,
    });
    expect(Object.isFrozen(config)).toBe(true);
  });

  it('reads what is to be cached', () => {
    const config = parseConfig('--model m --prefix-cache off --encoder-cache-bytes 0'.split(' '), machine);
    expect(config).toMatchObject({ prefixCache: false, encoderCacheBytes: 0 });
  });

  it('reads what keys and values are kept as', () => {
    expect(parseConfig('--model m --kv-cache-dtype fp8'.split(' '), machine).kvCacheDtype).toBe('fp8');
    expect(parseConfig('--model m --kv-cache-dtype auto'.split(' '), machine).kvCacheDtype).toBe('auto');
    expect(problems('--model m --kv-cache-dtype int8'.split(' '))).toEqual([
      "--kv-cache-dtype is 'int8': it must be one of auto, fp8",
    ]);
  });

  it('reads how long a step should take', () => {
    expect(parseConfig('--model m --step-target-ms 0'.split(' '), machine).stepTargetMs).toBe(0);
    expect(parseConfig('--model m --step-target-ms 40'.split(' '), machine).stepTargetMs).toBe(40);
  });

  it.each([
    ['cpu', { kind: 'cpu', index: 0 }],
    ['cuda', { kind: 'cuda', index: 0 }],
    ['cuda:3', { kind: 'cuda', index: 3 }],
  ])('reads --device %s', (text, device) => {
    expect(parseConfig(['--model', 'm', '--device', text], machine).device).toEqual(device);
  });

  it.each(['none', 'int8', 'fp8'])('reads --quantization %s', (quantization) => {
    expect(parseConfig(['--model', 'm', '--quantization', quantization], machine)).toMatchObject({
      quantization,
    });
  });

  it('takes the device that the image was made for where no flag says otherwise', () => {
    const image = environmentFlags({ INTERNVL_DEVICE: 'cuda' });
    expect(parseConfig([...image, '--model', 'm'], machine).device).toEqual({ kind: 'cuda', index: 0 });
    expect(parseConfig([...image, '--model', 'm', '--device', 'cpu'], machine).device.kind).toBe('cpu');
  });

  it('gives a GPU’s memory to the KV cache, and a part of the machine’s', () => {
    expect(parseConfig('--model m --device cuda'.split(' '), machine).kvCache).toEqual({ fraction: 0.9 });
    expect(parseConfig('--model m'.split(' '), machine).kvCache).toEqual({ fraction: 0.3 });
  });

  it('reads how ranks are to reach each other, from the environment too, where the command line says nothing', () => {
    const environment = { INTERNVL_PREFLIGHT: 'full', INTERNVL_INTERCONNECT: 'required', PREFLIGHT: 'off' };
    const read = (...flags: string[]) =>
      parseConfig([...environmentFlags(environment), '--model', 'm', ...flags], machine);
    expect(parseConfig(['--model', 'm'], machine)).toMatchObject({
      preflight: 'quick',
      interconnect: 'preferred',
    });
    expect(read()).toMatchObject({ preflight: 'full', interconnect: 'required' });
    expect(read('--preflight', 'quick')).toMatchObject({ preflight: 'quick', interconnect: 'required' });
    expect(environmentFlags({ INTERNVL_PREFLIGHT: '' })).toEqual([]);
  });

  it('reads a rank of a group', () => {
    const config = parseConfig(
      '--model m --rank 1 --world-size 2 --ranks a:1,b:2 --listen b:2 --kv-cache-bytes 4096'.split(' '),
      machine,
    );
    expect(config).toMatchObject({ rank: 1, ranks: ['a:1', 'b:2'], collectiveHost: 'b', threads: 4 });
    expect(config.kvCache).toEqual({ bytes: 4096 });
  });

  it.each([
    [[], '--model is required'],
    [['--model', 'm', '--dtype', 'int8'], "--dtype is 'int8': it must be one of float32, bfloat16"],
    [
      ['--model', 'm', '--quantization', 'float8'],
      "--quantization is 'float8': it must be one of none, int8, fp8",
    ],
    [['--model', 'm', '--device', 'tpu'], "--device is 'tpu': it must be cpu, cuda or cuda:N"],
    [['--model', 'm', '--device', 'cpu:1'], 'it must be cpu, cuda or cuda:N'],
    [['--model', 'm', '--load-format', 'gguf'], 'it must be one of auto, dummy'],
    [['--model', 'm', '--rank', '1'], '--rank 1 is not below --world-size 1'],
    [['--model', 'm', '--world-size', '2'], '--ranks names 0 addresses for --world-size 2'],
    [['--model', 'm', '--listen', 'nowhere'], 'the port is missing'],
    [['--model', 'm', '--max-sequences', '0'], 'from 1 to 4096'],
    [['--model', 'm', '--max-batched-tokens', '8'], 'below --max-sequences 64'],
    [['--model', 'm', '--kv-cache-fraction', '1.5'], 'above 0 and at most 1'],
    [['--model', 'm', '--kv-cache-bytes', '1', '--kv-cache-fraction', '0.5'], 'exclude each other'],
    [['--model', 'm', '--step-target-ms', '1.5'], 'at least 0'],
    [['--model', 'm', '--prefix-cache', 'yes'], 'one of on, off'],
    [['--model', 'm', '--encoder-cache-bytes', '-1'], 'at least 0'],
    [['--model', 'm', '--preflight', 'slow'], 'one of off, quick, full'],
    [['--model', 'm', '--preflight', 'off', '--interconnect', 'required'], 'needs a preflight'],
    [['--model', 'm', '--simulate', '{'], '--simulate is not JSON'],
    [['--model', 'm', '--simulate', '[]'], '--simulate is not a JSON object'],
    [['--model', 'm', '--nonsense', 'x'], 'unknown flag --nonsense'],
    [['--model', 'm', 'x'], "unexpected argument 'x'"],
    [['--model'], '--model needs a value'],
  ])('refuses %j', (argv, problem) => {
    expect(problems(argv).join('; ')).toContain(problem);
  });

  it('lists all problems at once', () => {
    expect(problems(['--rank', 'x', '--threads', '-1', '--log-level', 'loud']).length).toBeGreaterThanOrEqual(
      4,
    );
  });
});
