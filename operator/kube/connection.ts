// One HTTP request to the API server: where it is, who we are, which socket. kubeconfig and credentials are client-node's; sockets are kept here,
// because it would open a connection for every call.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import https from 'node:https';
import type { KubeConfig } from '@kubernetes/client-node';
import { TransportError } from './errors.ts';

export interface HttpRequest {
  readonly method: string;
  /** Path and query, without the server's own prefix. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer | undefined;
  /** Watches have sockets of their own: a call never waits behind one. */
  readonly pool: 'calls' | 'watches';
  readonly signal: AbortSignal;
}

interface Agents {
  readonly calls: http.Agent;
  readonly watches: http.Agent;
}

const MOST_CALL_SOCKETS = 32;
/** TCP probes on an idle socket start after this; ten unanswered ones, a second apart, end it. */
const KEEP_ALIVE_MS = 15_000;

export class Connection {
  readonly #config: KubeConfig;
  readonly #server: URL;
  readonly #userAgent: string;
  #agents: Agents | undefined;
  #fingerprint = '';

  constructor(config: KubeConfig, userAgent: string) {
    const cluster = config.getCurrentCluster();
    if (!cluster) {
      throw new Error('the kubeconfig has no current cluster: set current-context, or run inside a cluster');
    }
    this.#config = config;
    this.#server = new URL(cluster.server);
    this.#userAgent = userAgent;
  }

  get server(): string {
    return this.#server.origin;
  }

  /** Resolves with the answer's headers; the body is the caller's to read or to destroy. Rejects with a TransportError. */
  async send(request: HttpRequest): Promise<http.IncomingMessage> {
    const headers: http.OutgoingHttpHeaders = {};
    const tls: https.RequestOptions = { headers };
    try {
      await this.#config.applyToHTTPSOptions(tls);
      const token = await this.#freshToken();
      if (token !== undefined) headers['Authorization'] = token;
    } catch (error) {
      throw new TransportError('Connection', `no credentials for ${this.server}: ${message(error)}`, {
        cause: error,
      });
    }
    const proxied = this.#config.getCurrentCluster()?.proxyUrl !== undefined;
    const agent = proxied ? tls.agent : this.#agentsFor(tls)[request.pool];
    const options: https.RequestOptions = {
      ...tls,
      agent,
      method: request.method,
      protocol: this.#server.protocol,
      host: this.#server.hostname.replace(/^\[|\]$/g, ''),
      port: this.#server.port,
      path: `${this.#server.pathname.replace(/\/$/, '')}${request.path}`,
      signal: request.signal,
      headers: {
        ...headers,
        'User-Agent': this.#userAgent,
        Accept: 'application/json',
        ...request.headers,
        ...(request.body === undefined ? {} : { 'Content-Length': String(request.body.length) }),
      },
    };
    try {
      return await exchange(options, request);
    } catch (error) {
      // The server closed an idle socket just as we took it: nothing was read by it, so what may be repeated is sent once more.
      if (!(error instanceof StaleSocket) || !isRepeatable(request)) throw this.#explain(error, request);
    }
    try {
      return await exchange(options, request);
    } catch (error) {
      throw this.#explain(error, request);
    }
  }

  /** Closes idle sockets; busy ones end with their requests. */
  close(): void {
    if (this.#agents !== undefined) retire(this.#agents);
    this.#agents = undefined;
    this.#fingerprint = '';
  }

  /** Tokens of pods are rotated in their file: client-node reads it once a minute, this reads it for every request. */
  async #freshToken(): Promise<string | undefined> {
    const provider: unknown = this.#config.getCurrentUser()?.authProvider;
    const file = tokenFileOf(provider);
    return file === undefined ? undefined : `Bearer ${(await readFile(file, 'utf8')).trim()}`;
  }

  #agentsFor(tls: https.RequestOptions): Agents {
    const fingerprint = fingerprintOf(tls);
    if (this.#agents !== undefined && fingerprint === this.#fingerprint) return this.#agents;
    if (this.#agents !== undefined) retire(this.#agents); // new certificates: sockets made with the old ones are not used again
    const secure = this.#server.protocol === 'https:';
    const make = (maxSockets: number): http.Agent => {
      const options = {
        keepAlive: true,
        keepAliveMsecs: KEEP_ALIVE_MS,
        maxSockets,
        scheduling: 'lifo' as const,
      };
      return secure ? new https.Agent(options) : new http.Agent(options);
    };
    this.#agents = { calls: make(MOST_CALL_SOCKETS), watches: make(Infinity) };
    this.#fingerprint = fingerprint;
    return this.#agents;
  }

  #explain(error: unknown, request: HttpRequest): TransportError {
    if (error instanceof TransportError) return error;
    if (request.signal.aborted) {
      const reason: unknown = request.signal.reason;
      if (reason instanceof TransportError) return reason;
      return new TransportError('Aborted', `${request.method} ${request.path}: aborted`, { cause: reason });
    }
    const cause = error instanceof StaleSocket ? error.cause : error;
    return new TransportError(
      'Connection',
      `${request.method} ${this.server}${request.path}: ${message(cause)}`,
      { cause },
    );
  }
}

class StaleSocket extends Error {}

function exchange(options: https.RequestOptions, request: HttpRequest): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    const client = options.protocol === 'https:' ? https : http;
    const outgoing = client.request(options, resolve);
    outgoing.on('socket', (socket) => socket.setKeepAlive(true, KEEP_ALIVE_MS));
    outgoing.on('error', (error: NodeJS.ErrnoException) => {
      const stale = outgoing.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
      reject(stale && !request.signal.aborted ? new StaleSocket('stale socket', { cause: error }) : error);
    });
    outgoing.end(request.body);
  });
}

/** Reads, and server-side apply: the same again gives the same. */
function isRepeatable({ method, headers }: HttpRequest): boolean {
  return method === 'GET' || (method === 'PATCH' && headers['Content-Type'] === APPLY_CONTENT_TYPE);
}

/** JSON is YAML. */
export const APPLY_CONTENT_TYPE = 'application/apply-patch+yaml';

function retire(agents: Agents): void {
  for (const agent of [agents.calls, agents.watches]) {
    agent.maxFreeSockets = 0; // a socket that becomes free from now on is closed
    for (const sockets of Object.values(agent.freeSockets))
      for (const socket of sockets ?? []) socket.destroy();
  }
}

function fingerprintOf(tls: https.RequestOptions): string {
  const hash = createHash('sha256');
  for (const part of [tls.ca, tls.cert, tls.key]) {
    for (const bytes of Array.isArray(part) ? part : [part]) {
      hash.update(
        bytes === undefined ? '-' : typeof bytes === 'string' || Buffer.isBuffer(bytes) ? bytes : '?',
      );
      hash.update('\0');
    }
  }
  hash.update(`${tls.servername ?? ''}\0${tls.rejectUnauthorized ?? true}`);
  return hash.digest('hex');
}

function tokenFileOf(provider: unknown): string | undefined {
  const config = (provider as { readonly config?: { readonly tokenFile?: unknown } } | null | undefined)
    ?.config;
  return typeof config?.tokenFile === 'string' && config.tokenFile !== '' ? config.tokenFile : undefined;
}

function message(error: unknown): string {
  return error instanceof Error
    ? error.message || ((error as NodeJS.ErrnoException).code ?? error.name)
    : String(error);
}
