import { describe, expect, it } from 'vitest';
import { notReady, serveHealth, unhealthy, WATCH_DEAD_MS, type Watch } from './health.ts';

const watch = (name: string, over: Partial<Watch> = {}): Watch => ({
  name,
  hasSynced: true,
  silentMs: 0,
  ...over,
});

describe('unhealthy', () => {
  it('is so when one watch has had no contact for 15 minutes', () => {
    const watches = (silentMs: number) => [watch('pods'), watch('nodes', { silentMs })];
    expect(unhealthy(watches(WATCH_DEAD_MS), 2 * WATCH_DEAD_MS)).toBeUndefined();
    expect(unhealthy(watches(WATCH_DEAD_MS + 1), 2 * WATCH_DEAD_MS)).toContain('nodes');
  });

  it('counts from the start for a watch that never had an answer', () => {
    const watches = [watch('pods', { silentMs: undefined, hasSynced: false })];
    expect(unhealthy(watches, WATCH_DEAD_MS)).toBeUndefined();
    expect(unhealthy(watches, WATCH_DEAD_MS + 1)).toContain('pods');
  });
});

describe('notReady', () => {
  it('names what has not synced', () => {
    expect(notReady([watch('pods'), watch('nodes', { hasSynced: false })])).toBe('not synced yet: nodes');
    expect(notReady([watch('pods')])).toBeUndefined();
  });
});

describe('serveHealth', () => {
  it('answers 200 or 503 with the reason', async () => {
    let reason: string | undefined = 'not synced yet: pods';
    const server = await serveHealth({
      listen: '127.0.0.1:0',
      unhealthy: () => undefined,
      notReady: () => reason,
    });
    const get = async (path: string) => {
      const response = await fetch(`http://${server.address}${path}`);
      return `${response.status} ${(await response.text()).trim()}`;
    };
    expect(await get('/healthz')).toBe('200 ok');
    expect(await get('/readyz')).toBe('503 not synced yet: pods');
    reason = undefined;
    expect(await get('/readyz?verbose')).toBe('200 ok');
    expect(await get('/else')).toMatch(/^404 /);
    await server.close();
  });
});
