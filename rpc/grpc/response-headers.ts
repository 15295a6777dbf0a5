// The headers and trailers of answers as header blocks.

import type { Metadata } from '@grpc/grpc-js';
import { encodeHeaders } from '../http2/header-encoder.ts';

export interface CallStatus {
  readonly code: number;
  readonly details: string;
  readonly metadata?: Metadata | undefined;
}

const BEGIN = [':status', '200', 'content-type', 'application/grpc'];
const OK = ['grpc-status', '0'];
/** What compressed messages may be compressed with. */
export const ACCEPTED_ENCODINGS = 'identity,gzip';

const BEGIN_BLOCK = encodeHeaders(BEGIN);
const OK_BLOCK = encodeHeaders(OK);

/** The head of an answer that has messages. */
export function headersBlock(metadata?: Metadata): Buffer {
  return metadata === undefined ? BEGIN_BLOCK : encodeHeaders([...BEGIN, ...fieldsOf(metadata)]);
}

/** What ends an answer. */
export function trailersBlock(status: CallStatus): Buffer {
  return status.code === 0 && status.details === '' && status.metadata === undefined
    ? OK_BLOCK
    : encodeHeaders(statusFields(status));
}

/** An answer that is nothing but a status. */
export function statusBlock(status: CallStatus, extra: readonly string[] = []): Buffer {
  return encodeHeaders([...BEGIN, ...extra, ...statusFields(status)]);
}

/** What is answered to a request that is no gRPC. */
export function httpErrorBlock(httpStatus: number, extra: readonly string[] = []): Buffer {
  return encodeHeaders([':status', String(httpStatus), ...extra]);
}

function statusFields({ code, details, metadata }: CallStatus): string[] {
  const fields = ['grpc-status', String(code)];
  if (details !== '') fields.push('grpc-message', percentEncode(details));
  if (metadata !== undefined) fields.push(...fieldsOf(metadata));
  return fields;
}

/** Everything but printable ASCII, and the percent sign, as percent-encoded UTF-8. */
export function percentEncode(text: string): string {
  let encoded = '';
  for (const byte of Buffer.from(text, 'utf8'))
    encoded +=
      byte >= 0x20 && byte < 0x7f && byte !== 0x25
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  return encoded;
}

function fieldsOf(metadata: Metadata): string[] {
  const fields: string[] = [];
  for (const key of Object.keys(metadata.getMap()))
    for (const value of metadata.get(key))
      fields.push(key, typeof value === 'string' ? value : value.toString('base64'));
  return fields;
}
