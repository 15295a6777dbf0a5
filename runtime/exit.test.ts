import { describe, expect, it } from 'vitest';
import { PortInUse } from '../rpc/bind-error.ts';
import { CheckpointError } from './checkpoint/checkpoint-error.ts';
import { ConfigError } from './config.ts';
import { EngineThreadError } from './engine-thread/engine-thread.ts';
import { EngineStalled, exitCodeOf } from './exit.ts';
import { GroupLost, GroupMismatch } from './shard/group-lost.ts';

describe('exitCodeOf', () => {
  const fromThread = (name: string): Error =>
    new EngineThreadError({ name, code: 'x', message: 'm', stack: undefined });

  it.each([
    [new ConfigError(['x']), 2],
    [new CheckpointError('missing_file', 'x'), 2],
    [fromThread('CheckpointError'), 2],
    [fromThread('KvCacheError'), 2],
    [fromThread('CollectiveError'), 3],
    [fromThread('PlanMismatch'), 3],
    [new GroupMismatch(1, 'x'), 2],
    [new GroupLost(1, 'x'), 3],
    [new EngineStalled(4000), 3],
    [new PortInUse('127.0.0.1:1'), 4],
    [fromThread('DeviceError'), 6],
    [fromThread('OutOfMemory'), 2],
    [new TypeError('x'), 1],
  ])('of %s is %i', (error, code) => {
    expect(exitCodeOf(error)).toBe(code);
  });
});
