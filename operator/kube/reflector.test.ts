import { afterEach, describe, expect, it, vi } from 'vitest';
import { ApiClient } from './api-client.ts';
import type { ReflectorOptions } from './reflector.ts';
import { Reflector } from './reflector.ts';
import { PODS } from './resources.ts';
import type { Change } from './store.ts';
import { Store } from './store.ts';
import { CollectedLog } from './testing/collected-log.ts';
import { ManualClock, settle } from './testing/manual-clock.ts';
import type { SeenRequest } from './testing/scripted-server.ts';
import { ScriptedServer } from './testing/scripted-server.ts';

interface Pod {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly resourceVersion: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
  readonly [field: string]: unknown;
}

const stack: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const release of stack.splice(0).toReversed()) await release();
});

function pod(name: string, version: number, more: object = {}): Pod {
  return { metadata: { name, namespace: 'n', resourceVersion: String(version) }, ...more };
}
const added = (name: string, version: number) => ({ type: 'ADDED', object: pod(name, version) });
const modified = (name: string, version: number) => ({ type: 'MODIFIED', object: pod(name, version) });
const deleted = (name: string, version: number) => ({ type: 'DELETED', object: pod(name, version) });
const bookmark = (version: number) => ({
  type: 'BOOKMARK',
  object: { kind: 'Pod', metadata: { resourceVersion: String(version) } },
});
const page = (version: number, pods: Pod[], next?: string) => ({
  metadata: { resourceVersion: String(version), ...(next === undefined ? {} : { continue: next }) },
  items: pods,
});
const expired = { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version' };

/** `list` and `watch` get the requests of their kind with a number, from 0. */
async function reflect(
  list: (request: SeenRequest, index: number) => void,
  watch: (request: SeenRequest, index: number) => void,
  options: Partial<ReflectorOptions<Pod>> = {},
) {
  const server = await ScriptedServer.start((request) => {
    const kind = request.query.has('watch') ? 'watch' : 'list';
    (kind === 'watch' ? watch : list)(request, server.of(kind).length - 1);
  });
  stack.push(() => server[Symbol.asyncDispose]());
  const clock = new ManualClock();
  const client = ApiClient.fromKubeConfig(server.kubeConfig(), { userAgent: 't', clock });
  const store = new Store<Pod>({ byNode: ({ metadata }) => Object.values(metadata.labels ?? {}) });
  const changes: string[] = [];
  const ends: string[] = [];
  const log = new CollectedLog();
  const reflector = new Reflector<Pod>(client, PODS, {
    store,
    onChange: ({ type, object }: Change<Pod>) => {
      changes.push(`${type} ${object.metadata.name}@${object.metadata.resourceVersion}`);
    },
    log,
    random: () => 0,
    clock,
    observer: { watched: (outcome) => ends.push(outcome) },
    ...options,
  });
  const stop = new AbortController();
  const running = reflector.run(stop.signal);
  stack.push(async () => {
    stop.abort();
    await running;
    client.close();
  });
  return { server, clock, store, changes, ends, log, reflector, stop, running };
}

/** Waits for the sleep before the next try, which must be this long, and lets it pass. */
async function passBackoff(clock: ManualClock, ms: number): Promise<void> {
  await vi.waitFor(() => expect(clock.timers).toEqual([ms]));
  await clock.advance(ms);
}

const once = (request: SeenRequest): void => request.reply(200, page(10, [pod('a', 1), pod('b', 2)]));
const open = (request: SeenRequest): void => request.stream();

describe('list, then watch', () => {
  it('tells what it lists and what follows, in order', async () => {
    const { server, store, changes, reflector } = await reflect(once, (request) =>
      request.stream(added('c', 11), modified('a', 12), deleted('b', 13)),
    );
    await vi.waitFor(() => expect(changes).toHaveLength(5));
    expect(changes).toEqual(['added a@1', 'added b@2', 'added c@11', 'modified a@12', 'removed b@13']);
    expect(store.keys()).toEqual(['n/a', 'n/c']);
    expect([store.resourceVersion, reflector.hasSynced]).toEqual(['13', true]);
    expect(server.of('list')[0]?.query.toString()).toBe('limit=100');
    expect(server.of('watch')[0]?.query.toString()).toBe(
      'watch=true&allowWatchBookmarks=true&resourceVersion=10&timeoutSeconds=300',
    );
  });

  it('reads all pages before it tells of any', async () => {
    const told: number[] = [];
    const { server, changes } = await reflect(
      (request, index) =>
        request.reply(200, page(10, [pod(`p${index}`, index + 1)], index < 2 ? `c${index}` : undefined)),
      open,
      { onSynced: () => told.push(server.of('list').length) },
    );
    await vi.waitFor(() => expect(changes).toEqual(['added p0@1', 'added p1@2', 'added p2@3']));
    expect(server.of('list').map(({ query }) => query.get('continue'))).toEqual([null, 'c0', 'c1']);
    expect(server.of('list').map(({ query }) => query.get('resourceVersion'))).toEqual([null, null, null]);
    expect(told).toEqual([3]);
  });

  it('keeps unknown fields, without managedFields and the last applied copy', async () => {
    const metadata = {
      ...pod('a', 1).metadata,
      managedFields: [{}],
      annotations: { 'kubectl.kubernetes.io/last-applied-configuration': '{}', x: 'y' },
    };
    const { store } = await reflect(
      (request) => request.reply(200, page(10, [{ spec: { nextYear: [1] }, metadata }])),
      open,
    );
    await vi.waitFor(() => expect(store.size).toBe(1));
    expect(store.get('n/a')).toEqual({
      apiVersion: 'v1',
      kind: 'Pod',
      spec: { nextYear: [1] },
      metadata: { ...pod('a', 1).metadata, annotations: { x: 'y' } },
    });
  });

  it('ignores events that it has already seen, and the end of an object that was made again', async () => {
    const { changes, store } = await reflect(once, (request) =>
      request.stream(
        modified('a', 11),
        modified('a', 11),
        added('b', 2),
        deleted('b', 12),
        added('b', 13),
        deleted('b', 12),
        deleted('x', 14),
        modified('a', 15),
      ),
    );
    await vi.waitFor(() => expect(changes.at(-1)).toBe('modified a@15'));
    expect(changes.slice(2)).toEqual(['modified a@11', 'removed b@12', 'added b@13', 'modified a@15']);
    expect(store.get('n/b')?.metadata.resourceVersion).toBe('13');
  });

  it('goes on when the receiver of changes throws', async () => {
    const { store, log } = await reflect(once, (request) => request.stream(added('c', 11)), {
      onChange: () => {
        throw new Error('fault');
      },
    });
    await vi.waitFor(() => expect(store.size).toBe(3));
    expect(log.lines.filter((line) => line.startsWith('error'))).toHaveLength(3);
  });
});

describe('the end of a watch', () => {
  it('goes on at once from the newest version, a bookmark too', async () => {
    const { server, changes } = await reflect(once, (request, index) => {
      if (index === 0) {
        request.stream(added('c', 11), bookmark(50));
        request.response.end();
      } else request.stream(added('d', 51));
    });
    await vi.waitFor(() => expect(changes.at(-1)).toBe('added d@51'));
    expect(server.of('watch').map(({ query }) => query.get('resourceVersion'))).toEqual(['10', '50']);
    expect(server.of('list')).toHaveLength(1);
  });

  it('does not ask in a loop when the server closes at once', async () => {
    const { server, clock, ends } = await reflect(once, (request) => request.reply(200, ''));
    const waits = [800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000];
    for (const [index, wait] of waits.entries()) {
      await vi.waitFor(() => expect(clock.timers).toEqual([wait]));
      await settle();
      expect(server.of('watch')).toHaveLength(index + 1);
      await clock.advance(wait);
    }
    expect(ends.slice(0, waits.length)).toEqual(waits.map(() => 'short'));
    expect(server.of('list')).toHaveLength(1);
  });

  it('nor when it closes after telling what is known', async () => {
    const { server, clock } = await reflect(once, (request) => {
      request.stream(modified('a', 1), bookmark(10));
      request.response.end();
    });
    await vi.waitFor(() => expect(clock.timers).toEqual([800]));
    await settle();
    expect(server.of('watch')).toHaveLength(1);
  });

  it.each([
    [
      'is cut inside a line',
      (request: SeenRequest) => void request.response.end('{"type":"ADD'),
      'malformed',
    ],
    [
      'has a line that is not JSON',
      (request: SeenRequest) => void request.response.end('oops\n'),
      'malformed',
    ],
    [
      'loses its connection',
      (request: SeenRequest) => void request.response.socket!.resetAndDestroy(),
      'error',
    ],
    ['is refused with 500', (request: SeenRequest) => request.reply(500, 'no'), 'error'],
    [
      'has an ERROR other than 410',
      (request: SeenRequest) => {
        request.stream({ type: 'ERROR', object: { code: 500, reason: 'InternalError' } });
        request.response.end();
      },
      'error',
    ],
  ])('that %s: waits, then watches on without a list', async (_name, fail, end) => {
    const { server, clock, changes, ends } = await reflect(once, (request, index) => {
      if (index === 0) fail(request);
      else request.stream(added('c', 11));
    });
    await passBackoff(clock, 800);
    await vi.waitFor(() => expect(changes).toEqual(['added a@1', 'added b@2', 'added c@11']));
    expect(ends).toEqual([end]);
    expect(server.of('watch').map(({ query }) => query.get('resourceVersion'))).toEqual(['10', '10']);
    expect(server.of('list')).toHaveLength(1);
  });

  it('waits as long as 429 asks, a minute at most', async () => {
    const { clock, changes } = await reflect(once, (request, index) => {
      if (index < 2) request.reply(429, '', { 'Retry-After': index === 0 ? '7' : '3600' });
      else request.stream(added('c', 11));
    });
    await passBackoff(clock, 7_000);
    await passBackoff(clock, 60_000);
    await vi.waitFor(() => expect(changes).toHaveLength(3));
  });

  it('gives up a socket on which nothing arrives', async () => {
    const { server, clock, changes, ends } = await reflect(once, (request, index) =>
      index === 0 ? request.stream() : request.stream(added('c', 11)),
    );
    await vi.waitFor(() => expect(clock.timers).toEqual([310_000]));
    await clock.advance(310_000);
    await passBackoff(clock, 800);
    await vi.waitFor(() => expect(changes).toHaveLength(3));
    expect([ends, server.of('list').length]).toEqual([['error'], 1]);
  });

  it('starts from the shortest wait again after a watch that lived', async () => {
    const { clock, server } = await reflect(once, (request, index) => {
      if (index === 2) request.stream(added('c', 11));
      else request.reply(500, 'no');
    });
    await passBackoff(clock, 800);
    await passBackoff(clock, 1_600);
    await vi.waitFor(() => expect(clock.timers).toEqual([310_000]));
    await clock.advance(120_000);
    server.of('watch')[2]!.response.end();
    await passBackoff(clock, 800);
    await vi.waitFor(() => expect(server.of('watch')).toHaveLength(5));
  });
});

describe('a version that is no longer known', () => {
  it.each([
    ['as an answer', (request: SeenRequest) => request.reply(410, expired)],
    [
      'as an event',
      (request: SeenRequest) => {
        request.stream({ type: 'ERROR', object: expired });
        request.response.end();
      },
    ],
  ])('%s: lists the newest at once and tells the difference', async (_name, gone) => {
    const { server, changes, store, ends } = await reflect(
      (request, index) =>
        index === 0 ? once(request) : request.reply(200, page(90, [pod('b', 80), pod('c', 81)])),
      (request, index) => (index === 0 ? gone(request) : request.stream()),
    );
    await vi.waitFor(() => expect(server.of('watch')).toHaveLength(2));
    expect(changes).toEqual(['added a@1', 'added b@2', 'removed a@1', 'modified b@80', 'added c@81']);
    expect(server.of('list').map(({ query }) => query.get('resourceVersion'))).toEqual([null, null]);
    expect(server.of('watch')[1]?.query.get('resourceVersion')).toBe('90');
    expect(store.keys()).toEqual(['n/b', 'n/c']);
    expect(ends).toEqual(['gone']);
  });

  it('between two pages: begins the list anew, after a while', async () => {
    const { server, clock, changes } = await reflect((request, index) => {
      if (index === 0 || index === 2) request.reply(200, page(10, [pod(`p${index}`, 1)], 'next'));
      else if (index === 1 || index === 3) request.reply(410, expired);
      else once(request);
    }, open);
    await passBackoff(clock, 800);
    await passBackoff(clock, 1600);
    await vi.waitFor(() => expect(changes).toEqual(['added a@1', 'added b@2']));
    expect(server.of('list').map(({ query }) => query.get('continue'))).toEqual([
      null,
      'next',
      null,
      'next',
      null,
    ]);
  });
});

describe('the first list', () => {
  it('is tried until it succeeds; until then nothing is synced', async () => {
    const { clock, changes, reflector } = await reflect(
      (request, index) => (index < 2 ? request.reply(503, 'starting') : once(request)),
      open,
    );
    await vi.waitFor(() => expect(clock.timers).toEqual([800]));
    expect([reflector.hasSynced, reflector.silentMs, reflector.lastContact]).toEqual([
      false,
      undefined,
      undefined,
    ]);
    await clock.advance(800);
    await passBackoff(clock, 1_600);
    await vi.waitFor(() => expect(changes).toHaveLength(2));
    expect(reflector.hasSynced).toBe(true);
  });

  it('without a resourceVersion is no list', async () => {
    const { clock, log } = await reflect((request) => request.reply(200, { metadata: {}, items: [] }), open);
    await vi.waitFor(() => expect(clock.timers).toEqual([800]));
    expect(log.lines).toEqual(['warn pods: list failed, next try in 800 ms']);
  });
});

it('tells how long it has heard nothing', async () => {
  const { server, clock, reflector, changes } = await reflect(once, open);
  await vi.waitFor(() => expect(clock.timers).toEqual([310_000]));
  await clock.advance(60_000);
  expect(reflector.silentMs).toBe(60_000);
  server.of('watch')[0]!.stream(added('c', 11));
  await vi.waitFor(() => expect(changes).toHaveLength(3));
  expect([reflector.silentMs, reflector.lastContact]).toEqual([0, clock.now()]);
});

it.each(['listing', 'watching', 'waiting'])(
  'stops while %s, leaving no socket and no timer',
  async (what) => {
    const { server, clock, stop, running } = await reflect(
      (request) => (what === 'listing' ? undefined : once(request)),
      (request) => (what === 'waiting' ? request.reply(500, '') : request.stream()),
    );
    await vi.waitFor(() => expect(server.requests).toHaveLength(what === 'listing' ? 1 : 2));
    await vi.waitFor(() => expect(clock.timers).toHaveLength(1));
    stop.abort();
    await running;
    expect(clock.timers).toEqual([]);
    if (what !== 'waiting') await vi.waitFor(() => expect(server.openSockets).toBeLessThan(2));
  },
);
