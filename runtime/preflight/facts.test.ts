import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { PreflightFacts } from '../../gen/proto/internvl/shard/v1/shard.ts';
import { podFacts } from '../../test/support/rank-facts.ts';
import { driverVersionOf, gatherFacts } from './facts.ts';
import { fromWireFacts, toWireFacts } from './facts-codec.ts';
import { inCudaOrder } from './rank-facts.ts';

const roots: string[] = [];
afterEach(() => {
  for (const root of roots.splice(0)) rmSync(root, { recursive: true });
});

function machine(files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(join(tmpdir(), 'internvl-facts-'));
  roots.push(root);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

const information = (minor: number) =>
  [
    'Model: \t\t NVIDIA H100 80GB HBM3',
    'IRQ:   \t\t 18',
    `GPU UUID: \t GPU-aaaaaaa${minor}-0000-0000-0000-000000000000`,
    'Video BIOS: \t 96.00.99.00.01',
    'Bus Type: \t PCIe',
    `Device Minor: \t ${minor}`,
  ].join('\n');

describe('gatherFacts', () => {
  it('finds the granted GPUs in the order of their buses, and what the driver tells of them', () => {
    const root = machine({
      'dev/nvidia0': '',
      'dev/nvidia3': '',
      'dev/nvidiactl': '',
      'dev/nvidia-uvm': '',
      'dev/shm/.keep': '',
      'dev/nvidia-caps-imex-channels/channel0': '',
      'dev/nvidia-caps-imex-channels/channel12': '',
      'tmp/.keep': '',
      'proc/sys/kernel/random/boot_id': 'b00t\n',
      'proc/self/ns/.keep': '',
      'proc/driver/nvidia/version':
        'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (root@host)\nGCC version: 12\n',
      'proc/driver/nvidia/gpus/0000:9d:00.0/information': information(0),
      'proc/driver/nvidia/gpus/0000:18:00.0/information': information(3),
      'proc/driver/nvidia/gpus/0000:2a:00.0/information': information(1),
    });
    symlinkSync('net:[42]', join(root, 'proc/self/ns/net'));
    symlinkSync('pid:[43]', join(root, 'proc/self/ns/pid'));
    const environment = { NCCL_HOSTID: 'x', HOME: '/', CUDA_VISIBLE_DEVICES: '' };
    const facts = gatherFacts({ root, environment, hostName: 'h' });
    expect(facts).toMatchObject({
      hostName: 'h',
      bootId: 'b00t',
      networkNamespace: 'net:[42]',
      pidNamespace: 'pid:[43]',
      settings: { NCCL_HOSTID: 'x', CUDA_VISIBLE_DEVICES: '' },
      driverVersion: '570.86.15',
      imexChannels: [0, 12],
    });
    expect(facts.gpus).toEqual([
      { minor: 3, busId: '0000:18:00.0', uuid: 'GPU-aaaaaaa3-0000-0000-0000-000000000000' },
      { minor: 0, busId: '0000:9d:00.0', uuid: 'GPU-aaaaaaa0-0000-0000-0000-000000000000' },
    ]);
    expect(facts.shmDevice).toMatch(/^\d+:\d+$/);
    expect(facts.shmBytes).toBeGreaterThan(0);
    expect(facts.tmpDirectory).toMatch(/^\d+:\d+\/\d+$/);
  });

  it('leaves empty what is not there', () => {
    const facts = gatherFacts({ root: machine({ 'dev/null': '' }), environment: {}, hostName: 'h' });
    expect(facts).toEqual({
      hostName: 'h',
      bootId: '',
      networkNamespace: '',
      pidNamespace: '',
      shmDevice: '',
      shmBytes: 0,
      tmpDirectory: '',
      settings: {},
      gpus: [],
      driverVersion: '',
      imexChannels: [],
    });
  });

  it('knows this process', () => {
    expect(gatherFacts()).toMatchObject({
      bootId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      networkNamespace: expect.stringMatching(/^net:\[\d+\]$/),
    });
  });
});

describe('driverVersionOf', () => {
  it.each([
    ['NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024', '550.54.15'],
    ['NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build', '570.86.15'],
    ['something else', ''],
  ])('%s', (text, version) => expect(driverVersionOf(text)).toBe(version));
});

describe('facts on the wire', () => {
  const through = (facts: Parameters<typeof toWireFacts>[0]) =>
    fromWireFacts(PreflightFacts.decode(PreflightFacts.encode(toWireFacts(facts)).finish()));

  it('come back as they were', () => {
    const facts = podFacts(1, 4, { imexChannels: [0, 7] });
    expect(through(facts)).toEqual(facts);
    expect(fromWireFacts(undefined)).toBeUndefined();
  });

  it('are cut, whoever sent them', () => {
    const long = 'x'.repeat(10_000);
    const gpus = Array.from({ length: 1000 }, (_, minor) => ({ minor, busId: long, uuid: long }));
    const imexChannels = Array.from({ length: 1000 }, (_, channel) => channel);
    const facts = podFacts(0, 2, {
      hostName: long,
      gpus,
      imexChannels,
      settings: { NCCL_NET: long, PATH: long },
    });
    const wire = PreflightFacts.encode({
      ...toWireFacts(facts),
      ...facts,
      gpus,
      imexChannels,
      hostName: long,
    }).finish();
    const received = fromWireFacts(PreflightFacts.decode(wire))!;
    expect([received.hostName.length, received.gpus.length, received.imexChannels.length]).toEqual([
      256, 64, 64,
    ]);
    expect(Object.keys(received.settings)).not.toContain('PATH');
    expect(PreflightFacts.encode(toWireFacts(facts)).finish().length).toBeLessThan(64 * 600);
  });
});

describe('inCudaOrder', () => {
  it('goes by number where a bus is not known', () => {
    const gpus = [10, 2].map((minor) => ({ minor, busId: minor === 2 ? 'z' : '', uuid: '' }));
    expect(inCudaOrder(gpus).map(({ minor }) => minor)).toEqual([2, 10]);
  });
});
