import { describe, expect, it } from 'vitest';
import { AddressError, formatAddress, parseAddress } from './address.ts';

describe('parseAddress', () => {
  it.each([
    ['127.0.0.1:9000', { host: '127.0.0.1', port: 9000 }],
    ['localhost:0', { host: 'localhost', port: 0 }],
    ['[::1]:65535', { host: '::1', port: 65535 }],
  ])('reads %s and writes it back', (text, address) => {
    expect(parseAddress(text)).toEqual(address);
    expect(formatAddress(address)).toBe(text);
  });

  it.each([
    ['localhost', 'the port is missing'],
    [':9000', 'the host is empty'],
    ['::1:9000', 'in brackets'],
    ['host:65536', '0 to 65535'],
    ['host:x', '0 to 65535'],
    ['host:', '0 to 65535'],
    ['[]:1', 'the host is empty'],
  ])('refuses %j: %s', (text, why) => {
    expect(() => parseAddress(text)).toThrow(AddressError);
    expect(() => parseAddress(text)).toThrow(why);
  });
});
