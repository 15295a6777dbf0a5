import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { ApiClient, parseRetryAfter } from './api-client.ts';
import type { ApiClientOptions } from './api-client.ts';
import type { ApiError } from './errors.ts';
import { isAlreadyExists, isConflict, isGone, isNotFound, TransportError } from './errors.ts';
import { CONFIG_MAPS, DEPLOYMENTS, NODES, PODS } from './resources.ts';
import { ManualClock, settle } from './testing/manual-clock.ts';
import type { Handler } from './testing/scripted-server.ts';
import { ScriptedServer } from './testing/scripted-server.ts';

const stack: AsyncDisposable[] = [];
afterEach(async () => {
  for (const resource of stack.splice(0).toReversed()) await resource[Symbol.asyncDispose]();
});

async function serve(handler: Handler, options: Partial<ApiClientOptions> = {}) {
  const server = await ScriptedServer.start(handler);
  stack.push(server);
  const client = ApiClient.fromKubeConfig(server.kubeConfig(), { userAgent: 'test/1', ...options });
  stack.push({ [Symbol.asyncDispose]: () => Promise.resolve(client.close()) });
  return { server, client };
}

const pod = { metadata: { name: 'a', namespace: 'n' } };

function refusal(status: number, reason: string, message = 'no') {
  return { kind: 'Status', apiVersion: 'v1', status: 'Failure', code: status, reason, message };
}

describe('what a call sends', () => {
  it.each([
    ['get', (c: ApiClient) => c.get(PODS, 'n/a'), 'GET', '/api/v1/namespaces/n/pods/a', '', undefined],
    [
      'get of a cluster object',
      (c: ApiClient) => c.get(NODES, 'node-1'),
      'GET',
      '/api/v1/nodes/node-1',
      '',
      undefined,
    ],
    [
      'list',
      (c: ApiClient) =>
        c.list(DEPLOYMENTS, { namespace: 'n', labelSelector: 'a=b,c', limit: 5, resourceVersion: '0' }),
      'GET',
      '/apis/apps/v1/namespaces/n/deployments',
      'labelSelector=a%3Db%2Cc&limit=5&resourceVersion=0',
      undefined,
    ],
    [
      'create',
      (c: ApiClient) => c.create(PODS, pod, { fieldManager: 'm' }),
      'POST',
      '/api/v1/namespaces/n/pods',
      'fieldManager=m',
      { apiVersion: 'v1', kind: 'Pod', ...pod },
    ],
    [
      'apply to a subresource',
      (c: ApiClient) =>
        c.apply(DEPLOYMENTS, pod, { fieldManager: 'm', force: true, subresource: 'status', dryRun: true }),
      'PATCH',
      '/apis/apps/v1/namespaces/n/deployments/a/status',
      'force=true&fieldManager=m&dryRun=All',
      { apiVersion: 'apps/v1', kind: 'Deployment', ...pod },
    ],
    [
      'merge patch',
      (c: ApiClient) => c.mergePatch(PODS, 'n/a', { metadata: { annotations: { x: null } } }),
      'PATCH',
      '/api/v1/namespaces/n/pods/a',
      '',
      { metadata: { annotations: { x: null } } },
    ],
    [
      'replace',
      (c: ApiClient) => c.replace(PODS, pod),
      'PUT',
      '/api/v1/namespaces/n/pods/a',
      '',
      { apiVersion: 'v1', kind: 'Pod', ...pod },
    ],
    [
      'remove with a precondition',
      (c: ApiClient) =>
        c.remove(PODS, 'n/a', { uid: 'u1', gracePeriodSeconds: 0, propagationPolicy: 'Background' }),
      'DELETE',
      '/api/v1/namespaces/n/pods/a',
      '',
      {
        apiVersion: 'v1',
        kind: 'DeleteOptions',
        gracePeriodSeconds: 0,
        propagationPolicy: 'Background',
        preconditions: { uid: 'u1' },
      },
    ],
  ])('%s', async (_name, call, method, path, query, body) => {
    const { server, client } = await serve((request) => request.reply(200, { items: [] }));
    await call(client);
    const [request] = server.requests;
    expect([request?.method, request?.path, request?.query.toString()]).toEqual([method, path, query]);
    expect(request?.body === '' ? undefined : JSON.parse(request!.body)).toEqual(body);
    expect(request?.headers['user-agent']).toBe('test/1');
  });

  it.each([
    [
      'apply',
      'application/apply-patch+yaml',
      (c: ApiClient) => c.apply(PODS, pod, { fieldManager: 'm', force: false }),
    ],
    ['merge patch', 'application/merge-patch+json', (c: ApiClient) => c.mergePatch(PODS, 'n/a', {})],
    [
      'strategic merge patch',
      'application/strategic-merge-patch+json',
      (c: ApiClient) => c.strategicMergePatch(PODS, 'n/a', {}),
    ],
  ])('%s has its content type', async (_name, type, call) => {
    const { server, client } = await serve((request) => request.reply(200, {}));
    await call(client);
    expect(server.requests[0]?.headers['content-type']).toBe(type);
  });

  it('keeps the path of a server behind a prefix', async () => {
    const { server } = await serve((request) => request.reply(200, {}));
    const client = ApiClient.fromKubeConfig(server.kubeConfig(undefined, '/k8s/clusters/c-1/'), {
      userAgent: 't',
    });
    await client.get(NODES, 'x');
    client.close();
    expect(server.requests[0]?.path).toBe('/k8s/clusters/c-1/api/v1/nodes/x');
  });

  it('refuses an object of a namespaced kind without a namespace', async () => {
    const { server, client } = await serve((request) => request.reply(200, {}));
    expect(() => client.get(PODS, 'a')).toThrow(/needs a namespace/);
    expect(server.requests).toHaveLength(0);
  });

  it('keeps fields that nothing here knows, both ways', async () => {
    const { server, client } = await serve((request) => request.reply(200, JSON.parse(request.body)));
    const object = { ...pod, spec: { fieldOfNextYear: { deep: [1, { x: null }] } }, extra: true };
    expect(await client.apply(PODS, object, { fieldManager: 'm', force: true })).toEqual({
      apiVersion: 'v1',
      kind: 'Pod',
      ...object,
    });
    expect(JSON.parse(server.requests[0]!.body)).toMatchObject(object);
  });

  it('gives the items of a list their kind', async () => {
    const { client } = await serve((request) =>
      request.reply(200, {
        metadata: { resourceVersion: '7', continue: 'c' },
        items: [{ metadata: { name: 'a' } }],
      }),
    );
    expect(await client.list(CONFIG_MAPS)).toEqual({
      metadata: { resourceVersion: '7', continue: 'c' },
      items: [{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'a' } }],
    });
  });
});

describe('connections and credentials', () => {
  it('makes one connection for 50 calls in a row', async () => {
    const { server, client } = await serve((request) => request.reply(200, {}));
    for (let call = 0; call < 50; call += 1) await client.get(NODES, 'x');
    expect([server.requests.length, server.connections]).toEqual([50, 1]);
  });

  it('asks again when the server had just closed the kept socket', async () => {
    const { server, client } = await serve((request) => request.reply(200, {}));
    await client.get(NODES, 'x');
    let closed = 0;
    server.handler = (request) => {
      if (closed++ === 0) request.response.socket!.resetAndDestroy();
      else request.reply(200, { ok: true });
    };
    expect(await client.get(NODES, 'x')).toEqual({ ok: true });
    closed = 0;
    await expect(client.create(NODES, { metadata: { name: 'x' } })).rejects.toMatchObject({
      code: 'Connection',
    });
  });

  it('reads the token for every request', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'token-'));
    stack.push({ [Symbol.asyncDispose]: () => rm(folder, { recursive: true }) });
    const tokenFile = join(folder, 'token');
    const { server } = await serve((request) => request.reply(200, {}));
    await writeFile(tokenFile, 'one\n');
    const user = { name: 'u', authProvider: { name: 'tokenFile', config: { tokenFile } } };
    const client = ApiClient.fromKubeConfig(server.kubeConfig(user), { userAgent: 't' });
    await client.get(NODES, 'x');
    await writeFile(tokenFile, 'two\n');
    await client.get(NODES, 'x');
    client.close();
    expect(server.requests.map(({ headers }) => headers.authorization)).toEqual(['Bearer one', 'Bearer two']);
    expect(server.connections).toBe(1);
  });

  it('takes new sockets, and only then, when the CA changes', async () => {
    const { server } = await serve((request) => request.reply(200, {}));
    const config = server.kubeConfig();
    const client = ApiClient.fromKubeConfig(config, { userAgent: 't' });
    const use = async (ca: string) => {
      (config.clusters[0] as { caData?: string }).caData = Buffer.from(ca).toString('base64');
      await client.get(NODES, 'x');
      return server.connections;
    };
    expect([await use('ca 1'), await use('ca 1'), await use('ca 2'), await use('ca 2')]).toEqual([
      1, 1, 2, 2,
    ]);
    await vi.waitFor(() => expect(server.openSockets).toBe(1));
    client.close();
    await vi.waitFor(() => expect(server.openSockets).toBe(0));
  });

  it('says who does not answer', async () => {
    const { server, client } = await serve(() => undefined);
    await server[Symbol.asyncDispose]();
    stack.shift();
    await expect(client.get(NODES, 'x')).rejects.toMatchObject({
      name: 'TransportError',
      code: 'Connection',
      message: expect.stringMatching(/127\.0\.0\.1.*ECONNREFUSED/) as string,
    });
  });
});

describe('refusals', () => {
  it.each([
    [404, 'NotFound', isNotFound],
    [409, 'Conflict', isConflict],
    [409, 'AlreadyExists', isAlreadyExists],
    [410, 'Expired', isGone],
  ])('%s %s is an ApiError of its kind', async (status, reason, is) => {
    const { server, client } = await serve((request) =>
      request.reply(status, refusal(status, reason, 'because')),
    );
    const error: unknown = await client.get(PODS, 'n/a').catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: 'ApiError', status, reason });
    expect([isNotFound, isConflict, isAlreadyExists, isGone].filter((test) => test(error))).toEqual([is]);
    expect((error as ApiError).message).toBe(`GET /api/v1/namespaces/n/pods/a: ${status} ${reason}: because`);
    expect(server.requests).toHaveLength(1);
  });

  it('a 500 without a Status keeps its text and is not repeated', async () => {
    const { server, client } = await serve((request) => request.reply(500, 'etcd is gone'));
    await expect(client.get(NODES, 'x')).rejects.toMatchObject({
      status: 500,
      message: 'GET /api/v1/nodes/x: 500: etcd is gone',
    });
    expect(server.requests).toHaveLength(1);
  });

  it('waits as 429 asks, at most three times', async () => {
    const clock = new ManualClock();
    const codes: number[] = [];
    const { server, client } = await serve(
      (request) => request.reply(429, refusal(429, 'TooManyRequests'), { 'Retry-After': '2' }),
      { clock, onRequest: (_verb, _resource, code) => codes.push(code) },
    );
    const call = client.get(NODES, 'x').catch((thrown: unknown) => thrown);
    for (let retry = 1; retry <= 3; retry += 1) {
      await vi.waitFor(() => expect([server.requests.length, clock.timers[0]]).toEqual([retry, 2_000]));
      await clock.advance(2_000);
    }
    expect(await call).toMatchObject({ status: 429, retryAfterMs: 2_000 });
    expect(codes).toEqual([429, 429, 429, 429]);
    expect(clock.timers).toEqual([]);
  });

  it('does not wait longer than its deadline for a 429', async () => {
    const { server, client } = await serve((request) => request.reply(429, '', { 'Retry-After': '3600' }));
    await expect(client.get(NODES, 'x')).rejects.toMatchObject({ retryAfterMs: 3_600_000 });
    expect(server.requests).toHaveLength(1);
  });

  it('does not repeat a 429 that names no time', async () => {
    const { server, client } = await serve((request) => request.reply(429, refusal(429, 'TooManyRequests')));
    await expect(client.get(NODES, 'x')).rejects.toMatchObject({ status: 429, retryAfterMs: undefined });
    expect(server.requests).toHaveLength(1);
  });

  it.each([
    ['7', 7_000],
    ['Thu, 01 Jan 2026 00:00:09 GMT', 9_000],
    ['soon', undefined],
    [undefined, undefined],
  ])('Retry-After %s', (header, ms) => {
    expect(parseRetryAfter(header, Date.UTC(2026, 0, 1))).toBe(ms);
  });
});

describe('bounds of a call', () => {
  it('gives up at the deadline, whether the answer has not begun or not ended', async () => {
    for (const begin of [false, true]) {
      const clock = new ManualClock();
      const { server, client } = await serve(
        ({ response }) => {
          if (begin) response.writeHead(200).write('{');
        },
        { clock },
      );
      const call = client.get(NODES, 'x').catch((thrown: unknown) => thrown);
      await vi.waitFor(() => expect(server.requests).toHaveLength(1));
      await clock.advance(29_999);
      expect(await Promise.race([call, settle().then(() => 'open')])).toBe('open');
      await clock.advance(1);
      expect(await call).toMatchObject({ code: 'DeadlineExceeded' });
      await vi.waitFor(() => expect(server.openSockets).toBe(0));
    }
  });

  it('ends with its signal', async () => {
    const { server, client } = await serve(() => undefined);
    const stop = new AbortController();
    const call = client.get(NODES, 'x', { signal: stop.signal }).catch((thrown: unknown) => thrown);
    await vi.waitFor(() => expect(server.requests).toHaveLength(1));
    stop.abort();
    expect(await call).toMatchObject({ code: 'Aborted' });
    await expect(client.get(NODES, 'x', { signal: stop.signal })).rejects.toMatchObject({ code: 'Aborted' });
    expect(server.requests).toHaveLength(1);
  });

  it('bounds both bodies', async () => {
    const { server, client } = await serve((request) => request.reply(200, { x: 'y'.repeat(2_000) }), {
      maxRequestBytes: 1_000,
      maxResponseBytes: 1_000,
    });
    await expect(client.get(NODES, 'x')).rejects.toMatchObject({ code: 'ResponseTooLarge' });
    const large = { ...pod, data: 'y'.repeat(1_000) };
    await expect(client.create(PODS, large)).rejects.toMatchObject({ code: 'RequestTooLarge' });
    expect(server.requests).toHaveLength(1);
  });

  it.each([
    ['text', 'hello'],
    ['a cut object', '{"a":'],
    ['a number', '7'],
    ['nothing', ''],
  ])('an answer that is %s is malformed', async (_name, body) => {
    const { client } = await serve((request) => request.reply(200, body));
    await expect(client.get(NODES, 'x')).rejects.toMatchObject({ code: 'Malformed' });
  });

  it('a fence stops writes, not reads', async () => {
    const { server, client } = await serve((request) => request.reply(200, {}));
    const fenced = client.fenced(() => {
      throw new Error('not the leader');
    });
    await fenced.get(NODES, 'x');
    await expect(fenced.create(PODS, pod)).rejects.toThrow('not the leader');
    await expect(fenced.remove(PODS, 'n/a')).rejects.toThrow('not the leader');
    await client.create(PODS, pod);
    expect(server.requests.map(({ method }) => method)).toEqual(['GET', 'POST']);
  });
});

describe('watch', () => {
  const options = { resourceVersion: '5', timeoutSeconds: 300 };
  const event = (name: string) => ({ type: 'ADDED', object: { metadata: { name } } });

  async function read(client: ApiClient, signal?: AbortSignal): Promise<{ names: string[]; error: unknown }> {
    const names: string[] = [];
    try {
      for await (const { object } of client.watch<typeof pod>(PODS, { ...options, signal })) {
        names.push(object.metadata.name);
      }
    } catch (error) {
      return { names, error };
    }
    return { names, error: undefined };
  }

  it('reads events however their bytes are cut', async () => {
    const { server, client } = await serve(({ response }) => {
      const bytes = Buffer.from(`${JSON.stringify(event('ä'))}\n\n${JSON.stringify(event('b'))}\n`);
      response.writeHead(200);
      let at = 0;
      const send = (): void => {
        if (at === bytes.length) return void response.end();
        response.write(bytes.subarray(at, ++at), send);
      };
      send();
    });
    expect(await read(client)).toEqual({ names: ['ä', 'b'], error: undefined });
    expect(server.requests[0]?.query.toString()).toBe(
      'watch=true&allowWatchBookmarks=true&resourceVersion=5&timeoutSeconds=300',
    );
  });

  it.each([
    ['ends inside a line', '{"type":"ADD', { code: 'Malformed' }],
    ['is not JSON', 'oops\n', { code: 'Malformed' }],
    ['has an unknown type', '{"type":"MOVED","object":{}}\n', { code: 'Malformed' }],
    ['has no object', '{"type":"ADDED"}\n', { code: 'Malformed' }],
    ['has a nameless object', '{"type":"ADDED","object":{}}\n', { code: 'Malformed' }],
    ['is an ERROR', '{"type":"ERROR","object":{"code":410,"reason":"Expired"}}\n', { status: 410 }],
  ])('tells the events before one that %s', async (_name, bad, error) => {
    const { client } = await serve(({ response }) => response.end(`${JSON.stringify(event('a'))}\n${bad}`));
    expect(await read(client)).toMatchObject({ names: ['a'], error });
  });

  it('notices a connection that breaks', async () => {
    const { client } = await serve((request) => {
      request.stream(event('a'));
      setImmediate(() => request.response.destroy());
    });
    expect(await read(client)).toMatchObject({ names: ['a'], error: { code: 'Connection' } });
  });

  it('ends when nothing arrives, counted from the last byte', async () => {
    const clock = new ManualClock();
    const { server, client } = await serve((request) => request.stream(event('a')), { clock });
    const watching = read(client);
    await vi.waitFor(() => expect(clock.timers).toEqual([310_000]));
    await clock.advance(300_000);
    server.requests[0]!.stream(event('b'));
    await vi.waitFor(() => expect(clock.timers).toEqual([310_000]));
    await clock.advance(310_000);
    expect(await watching).toMatchObject({ names: ['a', 'b'], error: { code: 'Inactive' } });
    await vi.waitFor(() => expect(server.openSockets).toBe(0));
    expect(clock.timers).toEqual([]);
  });

  it('has a deadline for its beginning only', async () => {
    const clock = new ManualClock();
    const { server, client } = await serve(() => undefined, { clock });
    const watching = read(client);
    await vi.waitFor(() => expect(server.requests).toHaveLength(1));
    await clock.advance(30_000);
    expect(await watching).toMatchObject({ error: { code: 'DeadlineExceeded' } });
  });

  it('closes its socket when the reader leaves or the signal is aborted', async () => {
    const { server, client } = await serve((request) => request.stream(event('a')));
    for await (const { type } of client.watch(PODS, options)) {
      expect(type).toBe('ADDED');
      break;
    }
    await vi.waitFor(() => expect(server.openSockets).toBe(0));
    const stop = new AbortController();
    const watching = read(client, stop.signal);
    await vi.waitFor(() => expect(server.requests).toHaveLength(2));
    await settle();
    stop.abort();
    const { error } = await watching;
    expect(error).toBeInstanceOf(TransportError);
    expect(error).toMatchObject({ code: 'Aborted' });
    await vi.waitFor(() => expect(server.openSockets).toBe(0));
  });

  it('does not keep a call waiting', async () => {
    const { server, client } = await serve((request) => {
      if (request.query.has('watch')) request.stream();
      else request.reply(200, {});
    });
    const stop = new AbortController();
    const watches = Array.from({ length: 40 }, () => read(client, stop.signal));
    await vi.waitFor(() => expect(server.of('watch')).toHaveLength(40));
    await client.get(NODES, 'x');
    stop.abort();
    await Promise.all(watches);
  });
});
