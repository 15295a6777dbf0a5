// Errors on the wire: a gRPC status whose `grpc-status-details-bin` trailer holds a google.rpc.Status with ErrorInfo (why, in a form
// that programs can match on) and, where waiting helps, RetryInfo.

import { randomUUID } from 'node:crypto';
import { Metadata, status } from '@grpc/grpc-js';
import type { ServiceError } from '@grpc/grpc-js';
import { ErrorInfo, RetryInfo } from '../gen/proto/google/rpc/error_details.ts';
import { Status } from '../gen/proto/google/rpc/status.ts';

const DOMAIN = 'internvl.dev';
const DETAILS_KEY = 'grpc-status-details-bin';
const ERROR_INFO_TYPE = 'type.googleapis.com/google.rpc.ErrorInfo';
const RETRY_INFO_TYPE = 'type.googleapis.com/google.rpc.RetryInfo';
/** Characters of a message that go out: it travels twice in HTTP/2 headers, which peers commonly limit to 8 or 16 KiB. */
const MAX_MESSAGE_LENGTH = 1000;

export interface RpcErrorOptions {
  /** Facts behind the error: the field, the limit, the value. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** When trying again may help, in milliseconds from now. */
  readonly retryAfterMs?: number;
  readonly cause?: unknown;
}

/** An error meant for the caller: its gRPC status code, a reason in UPPER_SNAKE_CASE and a message that names what is wrong. */
export class RpcError extends Error {
  override readonly name = 'RpcError';
  readonly code: status;
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly retryAfterMs: number | undefined;

  constructor(code: status, reason: string, message: string, options: RpcErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.reason = reason;
    this.metadata = options.metadata ?? {};
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** Told of errors that were no RpcError: the caller sees only `id`. */
export type UnexpectedErrorReporter = (id: string, err: unknown) => void;

/** What grpc-js sends for `err`; anything but an RpcError becomes INTERNAL with an id that `report` gets together with the error. */
export function toServiceError(err: unknown, report?: UnexpectedErrorReporter): ServiceError {
  let known: RpcError;
  if (err instanceof RpcError) {
    known = err;
  } else {
    const id = randomUUID();
    report?.(id, err);
    known = new RpcError(status.INTERNAL, 'INTERNAL', `internal error ${id}: see the server's log`);
  }
  const message = wellFormed(known.message.slice(0, MAX_MESSAGE_LENGTH));
  const details = [
    {
      typeUrl: ERROR_INFO_TYPE,
      value: Buffer.from(
        ErrorInfo.encode({
          reason: known.reason,
          domain: DOMAIN,
          metadata: Object.fromEntries(
            Object.entries(known.metadata).map(([key, value]) => [key, wellFormed(value.slice(0, 200))]),
          ),
        }).finish(),
      ),
    },
  ];
  if (known.retryAfterMs !== undefined) {
    const seconds = Math.floor(known.retryAfterMs / 1000);
    const nanos = Math.round((known.retryAfterMs - seconds * 1000) * 1e6);
    details.push({
      typeUrl: RETRY_INFO_TYPE,
      value: Buffer.from(RetryInfo.encode({ retryDelay: { seconds: BigInt(seconds), nanos } }).finish()),
    });
  }
  const metadata = new Metadata();
  metadata.set(DETAILS_KEY, Buffer.from(Status.encode({ code: known.code, message, details }).finish()));
  return Object.assign(new Error(message), { code: known.code, details: message, metadata });
}

// grpc-js percent-encodes the message with encodeURI, which throws on lone surrogates: they become U+FFFD.
function wellFormed(text: string): string {
  return Buffer.from(text, 'utf8').toString('utf8');
}

export interface ErrorDetails {
  /** ErrorInfo.reason; undefined when the peer sent none. */
  readonly reason: string | undefined;
  readonly metadata: Readonly<Record<string, string>>;
  readonly retryAfterMs: number | undefined;
}

const NO_DETAILS: ErrorDetails = { reason: undefined, metadata: {}, retryAfterMs: undefined };

/** The google.rpc details of a received error or its trailers; empty when there are none or they do not parse. */
export function parseDetails(from: Metadata | Pick<ServiceError, 'metadata'> | undefined): ErrorDetails {
  const metadata = from instanceof Metadata ? from : from?.metadata;
  const bytes = metadata?.get(DETAILS_KEY)[0];
  if (!Buffer.isBuffer(bytes)) return NO_DETAILS;
  let reason: string | undefined;
  let facts: Record<string, string> = {};
  let retryAfterMs: number | undefined;
  try {
    for (const detail of Status.decode(bytes).details) {
      if (detail.typeUrl === ERROR_INFO_TYPE) {
        const info = ErrorInfo.decode(detail.value);
        reason = info.reason;
        facts = info.metadata;
      } else if (detail.typeUrl === RETRY_INFO_TYPE) {
        const delay = RetryInfo.decode(detail.value).retryDelay;
        if (delay) retryAfterMs = Number(delay.seconds) * 1000 + delay.nanos / 1e6;
      }
    }
  } catch {
    return NO_DETAILS; // the status code and message still say what happened
  }
  return { reason, metadata: facts, retryAfterMs };
}

/** True for errors that grpc-js reports: they carry a numeric status code and trailers. */
export function isServiceError(err: unknown): err is ServiceError {
  return (
    err instanceof Error &&
    'code' in err &&
    typeof err.code === 'number' &&
    'details' in err &&
    'metadata' in err
  );
}

/** A received error as an RpcError, so that it can be passed on or matched by reason; the original is its cause. */
export function fromServiceError(err: ServiceError): RpcError {
  const details = parseDetails(err);
  return new RpcError(err.code, details.reason ?? status[err.code] ?? 'UNKNOWN', err.details, {
    metadata: details.metadata,
    ...(details.retryAfterMs === undefined ? {} : { retryAfterMs: details.retryAfterMs }),
    cause: err,
  });
}
