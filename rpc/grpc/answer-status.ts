// How a call ended, as its client reads it.

import { Metadata, status, type ServiceError } from '@grpc/grpc-js';
import { ErrorCode } from '../http2/protocol.ts';
import { addMetadata } from './request-metadata.ts';
import type { CallStatus } from './response-headers.ts';

/** What a proxy on the way may answer with. */
const OF_HTTP: ReadonlyMap<number, status> = new Map([
  [400, status.INTERNAL],
  [401, status.UNAUTHENTICATED],
  [403, status.PERMISSION_DENIED],
  [404, status.UNIMPLEMENTED],
  [429, status.UNAVAILABLE],
  [502, status.UNAVAILABLE],
  [503, status.UNAVAILABLE],
  [504, status.UNAVAILABLE],
]);
const OF_RESET: ReadonlyMap<number, status> = new Map([
  [ErrorCode.REFUSED_STREAM, status.UNAVAILABLE],
  [ErrorCode.CANCEL, status.CANCELLED],
  [ErrorCode.ENHANCE_YOUR_CALM, status.RESOURCE_EXHAUSTED],
]);

/** The status in headers of an answer; undefined where they are those before its messages. */
export function answerStatus(fields: readonly string[], ended: boolean): CallStatus | undefined {
  let http = '200';
  let code: string | undefined;
  let message = '';
  for (let index = 0; index < fields.length; index += 2) {
    const name = fields[index];
    if (name === ':status') http = fields[index + 1]!;
    else if (name === 'grpc-status') code = fields[index + 1]!;
    else if (name === 'grpc-message') message = fields[index + 1]!;
  }
  if (code !== undefined && /^\d{1,9}$/.test(code))
    return { code: Number(code), details: decodePercents(message), metadata: trailersMetadata(fields) };
  if (http !== '200')
    return { code: OF_HTTP.get(Number(http)) ?? status.UNKNOWN, details: `HTTP status ${http}` };
  return ended || code !== undefined ? NO_STATUS : undefined;
}

export const NO_STATUS: CallStatus = {
  code: status.INTERNAL,
  details: 'the answer ended without a status',
};

/** Of a call whose stream was reset. */
export function resetStatus(code: ErrorCode): CallStatus {
  const name = Object.entries(ErrorCode).find(([, value]) => value === code)?.[0] ?? 'no known code';
  return {
    code: OF_RESET.get(code) ?? status.INTERNAL,
    details: `the call was reset with ${code} (${name})`,
  };
}

/** The error that grpc-js would make of it. */
export function statusError({ code, details, metadata = new Metadata() }: CallStatus): ServiceError {
  const error = new Error(`${code} ${status[code] ?? 'UNKNOWN'}: ${details}`);
  return Object.assign(error, { code, details, metadata });
}

function trailersMetadata(fields: readonly string[]): Metadata {
  const metadata = new Metadata();
  for (let index = 0; index < fields.length; index += 2) {
    const name = fields[index]!;
    if (name.startsWith(':') || name === 'grpc-status' || name === 'grpc-message' || name === 'content-type')
      continue;
    addMetadata(metadata, name, fields[index + 1]!);
  }
  return metadata;
}

function decodePercents(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
