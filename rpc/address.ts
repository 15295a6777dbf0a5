/** A network address as flags give it: a host name or IP address (IPv6 without brackets) and a port. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** An address that is not HOST:PORT; the message quotes it and says what is wrong. */
export class AddressError extends Error {
  override readonly name = 'AddressError';
  readonly code = 'bad_address';
}

/** Parses HOST:PORT, IPv6 hosts in brackets; port 0 means any free port. Throws AddressError. */
export function parseAddress(text: string): Address {
  const bracketed = /^\[([^\]]*)\]:(.*)$/.exec(text);
  const split = text.lastIndexOf(':');
  const host = bracketed ? bracketed[1]! : text.slice(0, Math.max(split, 0));
  const port = bracketed ? bracketed[2]! : text.slice(split + 1);
  if (split < 0) throw new AddressError(`'${text}' is not HOST:PORT: the port is missing`);
  if (host === '') throw new AddressError(`'${text}' is not HOST:PORT: the host is empty`);
  if (!bracketed && host.includes(':')) {
    throw new AddressError(`'${text}' is not HOST:PORT: write an IPv6 host in brackets, as in [::1]:9000`);
  }
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65535) {
    throw new AddressError(`'${text}' is not HOST:PORT: the port must be a number from 0 to 65535`);
  }
  return { host, port: Number(port) };
}

/** The address as HOST:PORT, IPv6 hosts in brackets. */
export function formatAddress(address: Address): string {
  return `${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`;
}
