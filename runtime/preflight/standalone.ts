// A preflight without a model: the ranks find each other, join, measure, and all have the same report.

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Metadata, credentials } from '@grpc/grpc-js';
import {
  RendezvousClient,
  RendezvousService as rendezvousDefinition,
} from '../../gen/proto/internvl/shard/v1/rendezvous.ts';
import type { AnnounceRequest } from '../../gen/proto/internvl/shard/v1/rendezvous.ts';
import { ShardService as shardDefinition } from '../../gen/proto/internvl/shard/v1/shard.ts';
import { formatAddress, parseAddress } from '../../rpc/address.ts';
import { clientChannelOptions } from '../../rpc/channel.ts';
import type { Logger } from '../../rpc/log.ts';
import { createServer } from '../../rpc/server.ts';
import type { RpcServer, ServedService } from '../../rpc/server.ts';
import { SHARD_VERSION } from '../shard/identity.ts';
import type { RankIdentity } from '../shard/identity.ts';
import { ShardGroup } from '../shard/shard-group.ts';
import { ShardService } from '../shard/shard-service.ts';
import type { Extent } from './measurement.ts';
import { PreflightError } from './preflight-error.ts';
import { ProbeThread } from './probe-thread.ts';
import type { RankFacts } from './rank-facts.ts';
import { Rendezvous } from './rendezvous.ts';
import type { PreflightReport } from './report.ts';

export interface StandaloneOptions {
  readonly rank: number;
  readonly worldSize: number;
  /** HOST:PORT of rank 0; rank 0 listens there. */
  readonly leader: string;
  /** Where others reach this rank; undefined = where it reaches the leader from, or the leader's own host. */
  readonly host: string | undefined;
  readonly extent: Extent;
  /** How long the ranks may take to come. */
  readonly waitMs: number;
  readonly facts: RankFacts;
  readonly logger: Logger;
  /** Rank 0 listens; the address has the port that was bound. */
  readonly onListening?: (address: string) => void;
}

const MAX_MESSAGE_BYTES = 4 << 20; // a report of 64 ranks is a tenth of it
const PEER_TIMEOUT_MS = 10_000;
/** Beyond the wait: joining and measuring. */
const RESULT_MS = 60_000;
const RETRY_MS = 200;
const FAREWELL_MS = 2_000;

/** Takes part as one rank; every rank gets the same report. Throws PreflightError, GroupLost, GroupMismatch, PortInUse or BindError. */
export function runStandalone(options: StandaloneOptions): Promise<PreflightReport> {
  return options.rank === 0 ? lead(options) : follow(options);
}

async function lead(options: StandaloneOptions): Promise<PreflightReport> {
  const { worldSize, leader, extent, waitMs, facts, logger, onListening } = options;
  const rendezvous = new Rendezvous(worldSize);
  const server = serve(
    [{ definition: rendezvousDefinition, implementation: rendezvous.implementation }],
    logger,
  );
  const address = await server.bind(leader);
  onListening?.(address);
  const host = options.host ?? parseAddress(leader).host;
  const thread = new ProbeThread({ rank: 0, worldSize, host, timeoutMs: PEER_TIMEOUT_MS });
  let group: ShardGroup | undefined;
  try {
    const addresses = [address, ...(await rendezvous.addresses(waitMs))];
    group = new ShardGroup({
      thread,
      identity: identity(0, worldSize),
      facts,
      addresses,
      epoch: randomUUID(),
      hangTimeoutMs: PEER_TIMEOUT_MS,
      joinTimeoutMs: PEER_TIMEOUT_MS,
      logger,
      onLost: () => undefined, // no Control stream is opened
    });
    await group.join();
    const report = await group.preflight(extent);
    rendezvous.tell(JSON.stringify(report));
    return report;
  } catch (error) {
    rendezvous.fail(error as Error);
    throw error;
  } finally {
    group?.close(true);
    await thread.close();
    await server.shutdown(FAREWELL_MS);
  }
}

async function follow(options: StandaloneOptions): Promise<PreflightReport> {
  const { rank, worldSize, leader, waitMs, facts, logger } = options;
  const giveUpAt = performance.now() + waitMs;
  const host = options.host ?? (await ownHost(leader, giveUpAt, waitMs));
  const thread = new ProbeThread({ rank, worldSize, host, timeoutMs: PEER_TIMEOUT_MS });
  const service = new ShardService({
    thread,
    identity: identity(rank, worldSize),
    facts,
    hangTimeoutMs: PEER_TIMEOUT_MS,
    logger,
    onReady: () => undefined,
    onEnd: () => undefined,
  });
  const server = serve([{ definition: shardDefinition, implementation: service.implementation }], logger);
  try {
    const address = await server.bind(formatAddress({ host, port: 0 }));
    const report = await announce(leader, { rank, worldSize, address, version: SHARD_VERSION }, waitMs);
    return JSON.parse(report) as PreflightReport;
  } finally {
    await thread.close();
    await server.shutdown(FAREWELL_MS);
  }
}

function serve(services: readonly ServedService[], logger: Logger): RpcServer {
  const descriptors = readFileSync(new URL('../../gen/descriptors.binpb', import.meta.url));
  return createServer({ maxMessageBytes: MAX_MESSAGE_BYTES, services, descriptors, logger });
}

/** What a group asks of a rank, where there is no model that could differ. */
function identity(rank: number, worldSize: number): RankIdentity {
  return {
    rank,
    worldSize,
    modelFingerprint: 'preflight',
    dtype: 'float32',
    quantization: 'none',
    kvCacheDtype: 'auto',
    blockSize: 0,
    maxModelLength: 0,
    version: SHARD_VERSION,
  };
}

function announce(leader: string, request: AnnounceRequest, waitMs: number): Promise<string> {
  const limits = clientChannelOptions({ maxMessageBytes: MAX_MESSAGE_BYTES });
  const client = new RendezvousClient(leader, credentials.createInsecure(), limits);
  return new Promise<string>((resolve, reject) => {
    const deadline = Date.now() + waitMs + RESULT_MS;
    client.announce(request, new Metadata(), { deadline }, (err, response) => {
      if (!err) resolve(response.report);
      else reject(new PreflightError(`rank 0 at ${leader}: ${err.details}`, { cause: err }));
    });
  }).finally(() => client.close());
}

/** The address from which this machine reaches the leader, once it is up: peers on the same network reach this one there. */
async function ownHost(leader: string, giveUpAt: number, waitMs: number): Promise<string> {
  const { host, port } = parseAddress(leader);
  for (;;) {
    const found = await localAddress(host, port);
    if (typeof found === 'string') return found;
    if (performance.now() > giveUpAt)
      throw new PreflightError(
        `rank 0 did not answer at ${leader} within ${waitMs / 1000} s (${found.message}): start it with --rank 0 and the same --leader`,
      );
    await delay(RETRY_MS);
  }
}

function localAddress(host: string, port: number): Promise<string | Error> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: PEER_TIMEOUT_MS });
    const end = (result: string | Error): void => {
      socket.destroy();
      resolve(result);
    };
    socket.on('connect', () => end(socket.localAddress ?? host));
    socket.on('error', end);
    socket.on('timeout', () => end(new Error('no answer')));
  });
}
