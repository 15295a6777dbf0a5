// The client's end of a connection that carries one call.

import { encodeHeaders } from './header-encoder.ts';
import type { HeaderList } from './header-decoder.ts';
import { ErrorCode, PREFACE, Setting } from './protocol.ts';
import { Session, type SessionOptions } from './session.ts';
import type { Http2Stream } from './stream.ts';

/** Headers of the answer, and at its end its trailers: name, value, name, value … */
export type OnHeaders = (fields: readonly string[], ended: boolean) => void;

const CALL = 1;

export class ClientSession extends Session {
  readonly call: Http2Stream;
  readonly #onHeaders: OnHeaders;

  /** Begins with a request of these headers. */
  constructor(options: SessionOptions, request: readonly string[], onHeaders: OnHeaders) {
    super(options, false);
    this.#onHeaders = onHeaders;
    this.outbox.raw(PREFACE);
    this.greet([[Setting.ENABLE_PUSH, 0]]);
    this.call = this.openStream(CALL);
    this.call.respond(encodeHeaders(request));
  }

  protected override goingAway(lastStreamId: number): void {
    if (lastStreamId < CALL) this.call.gone();
  }

  protected headerList(streamId: number, ended: boolean, list: HeaderList): void {
    if (this.call.over) return;
    if (streamId !== CALL || list.malformed || list.tooLarge) {
      this.spoilStream(CALL, ErrorCode.PROTOCOL_ERROR);
      return;
    }
    if (ended) this.call.remoteEnded = true;
    this.#onHeaders(list.fields, ended);
  }
}
