import { Metadata, status } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { ManifestError } from '../local/manifest-error.ts';
import { PortInUse } from '../local/ports.ts';
import { RpcError, toServiceError } from '../rpc/status.ts';
import { usageError } from './cli-error.ts';
import { fromServiceError } from './client.ts';
import { asCliError, errorJson, formatError } from './report-error.ts';

describe('errors', () => {
  it.each([
    ['wrong usage', usageError('no', 'do so'), 2, 'internvl up: no\n  do so\n'],
    ['a manifest', new ManifestError(['a.yaml: x', 'a.yaml: y']), 2, 'internvl up: a.yaml: x\na.yaml: y\n'],
    ['a taken port', new PortInUse('a:1 is in use'), 4, 'internvl up: a:1 is in use [PORT_IN_USE]\n'],
    ['any other', new Error('broken'), 1, 'internvl up: broken\n'],
  ])('of %s', (_, error, exitCode, text) => {
    const cliError = asCliError(error);
    expect(cliError.exitCode).toBe(exitCode);
    expect(formatError('up', cliError)).toBe(text);
  });

  it('of a call show status, reason and when to try again', () => {
    const full = toServiceError(
      new RpcError(status.RESOURCE_EXHAUSTED, 'QUEUE_FULL', 'the queue is full', { retryAfterMs: 1500 }),
    );
    const cliError = fromServiceError(full);
    expect(cliError.exitCode).toBe(1);
    expect(formatError('generate', cliError)).toBe(
      'internvl generate: the queue is full [RESOURCE_EXHAUSTED, QUEUE_FULL]\n  try again in 1.5 s\n',
    );
    expect(JSON.parse(errorJson(cliError))).toEqual({
      error: { code: 'RESOURCE_EXHAUSTED', reason: 'QUEUE_FULL', message: 'the queue is full' },
    });
  });

  it('of an unreachable server end with their own exit code', () => {
    const gone = Object.assign(new Error('14 UNAVAILABLE: x'), {
      code: status.UNAVAILABLE,
      details: 'x',
      metadata: new Metadata(),
    });
    expect(fromServiceError(gone)).toMatchObject({
      exitCode: 3,
      code: 'UNAVAILABLE',
      reason: '',
      message: 'x',
    });
  });
});
