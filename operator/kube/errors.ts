// What can go wrong between this process and the API server. Two classes: the server answered (ApiError) or there is no usable answer
// (TransportError); a third lets a reconcile say that trying again is of no use.

/** `metav1.Status` as far as it is read here. */
export interface Status {
  readonly kind?: string;
  readonly code?: number;
  readonly reason?: string;
  readonly message?: string;
  readonly details?: StatusDetails;
}

export interface StatusDetails {
  readonly name?: string;
  readonly kind?: string;
  readonly retryAfterSeconds?: number;
  readonly causes?: readonly {
    readonly reason?: string;
    readonly message?: string;
    readonly field?: string;
  }[];
}

/** The API server's refusal. `status` is the HTTP code, `reason` the machine-readable word of the Status (empty when there was none). */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  readonly reason: string;
  /** How long the server asked to wait, from Retry-After or the Status. */
  readonly retryAfterMs: number | undefined;
  readonly details: StatusDetails | undefined;

  constructor(
    what: string,
    status: number,
    body: Status | undefined,
    text: string,
    retryAfterMs: number | undefined,
  ) {
    const said = body?.message ?? text.slice(0, 500).trim();
    super(`${what}: ${status}${body?.reason ? ` ${body.reason}` : ''}${said === '' ? '' : `: ${said}`}`);
    this.status = status;
    this.reason = body?.reason ?? '';
    this.details = body?.details;
    const asked = body?.details?.retryAfterSeconds;
    this.retryAfterMs = retryAfterMs ?? (typeof asked === 'number' && asked >= 0 ? asked * 1000 : undefined);
  }
}

export type TransportCode =
  | 'Connection' // refused, reset, name not found, TLS
  | 'DeadlineExceeded' // no complete answer within the call's deadline
  | 'Aborted' // the caller's signal
  | 'Inactive' // a watch on which nothing arrived for too long
  | 'RequestTooLarge' // never sent
  | 'ResponseTooLarge'
  | 'Malformed'; // not JSON, or not what the protocol allows

/** There was no usable answer: nothing is known about whether a write took place, except for `RequestTooLarge`. */
export class TransportError extends Error {
  override readonly name = 'TransportError';
  readonly code: TransportCode;

  constructor(code: TransportCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Thrown by a reconcile: only a change of the object can help, so the key is not tried again until then. */
export class TerminalError extends Error {
  override readonly name = 'TerminalError';
}

export function isNotFound(error: unknown): error is ApiError {
  return error instanceof ApiError && error.status === 404;
}

/** A write lost against another one: the resourceVersion is not the newest, or a precondition on the uid failed. */
export function isConflict(error: unknown): error is ApiError {
  return error instanceof ApiError && error.status === 409 && error.reason !== 'AlreadyExists';
}

export function isAlreadyExists(error: unknown): error is ApiError {
  return error instanceof ApiError && error.status === 409 && error.reason === 'AlreadyExists';
}

/** The resourceVersion or the continue token is older than what the server still knows. */
export function isGone(error: unknown): error is ApiError {
  return (
    error instanceof ApiError &&
    (error.status === 410 || error.reason === 'Expired' || error.reason === 'Gone')
  );
}

/** The object's namespace is going away, or gone. */
export function isNamespaceTerminating(error: unknown): boolean {
  if (!(error instanceof ApiError)) return false;
  if (error.details?.causes?.some(({ reason }) => reason === 'NamespaceTerminating')) return true;
  return error.status === 404 && error.details?.kind === 'namespaces';
}

/** Whatever was thrown, as an Error. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
