/** The address of a server is taken by another process. */
export class PortInUse extends Error {
  override readonly name = 'PortInUse';
  readonly code = 'port_in_use';
  readonly address: string;

  constructor(address: string, options?: ErrorOptions) {
    super(`${address} is in use by another process: stop it or choose another port`, options);
    this.address = address;
  }
}

/** An address that cannot be bound for another reason, such as a host that is not this machine's. */
export class BindError extends Error {
  override readonly name = 'BindError';
  readonly code = 'cannot_bind';
  readonly address: string;

  constructor(address: string, cause: Error) {
    super(`cannot listen on ${address}: ${cause.message}`, { cause });
    this.address = address;
  }
}

/** PortInUse or BindError for what listening on `address` failed with. */
export function bindError(address: string, cause: Error): PortInUse | BindError {
  return cause.message.includes('EADDRINUSE')
    ? new PortInUse(address, { cause })
    : new BindError(address, cause);
}
