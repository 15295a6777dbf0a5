import { array, assert, constantFrom, property, stringMatching, tuple } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HeaderDecoder } from './header-decoder.ts';
import { encodeHeaders } from './header-encoder.ts';
import { ErrorCode, ProtocolError } from './protocol.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
const decode = (decoder: HeaderDecoder, block: Buffer) => decoder.decode(block, 0, block.length);

describe('HeaderDecoder', () => {
  it('keeps what it is told to between blocks (RFC 7541, C.4)', () => {
    const decoder = new HeaderDecoder(16_384);
    const common = [':method', 'GET', ':scheme', 'http', ':path', '/', ':authority', 'www.example.com'];
    expect(decode(decoder, hex('8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff')).fields).toEqual(common);
    expect(decode(decoder, hex('8286 84be 5886 a8eb 1064 9cbf')).fields).toEqual([
      ...common,
      'cache-control',
      'no-cache',
    ]);
    expect(
      decode(decoder, hex('8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf')).fields,
    ).toEqual([
      ':method',
      'GET',
      ':scheme',
      'https',
      ':path',
      '/index.html',
      ':authority',
      'www.example.com',
      'custom-key',
      'custom-value',
    ]);
  });

  it('forgets the oldest entries when its table is full or made smaller', () => {
    const decoder = new HeaderDecoder(65_536);
    const entry = (index: number): Buffer =>
      Buffer.concat([hex('40 04'), Buffer.from(`k${String(index).padStart(3, '0')}`), hex('01 76')]);
    for (let index = 0; index < 200; index++) decode(decoder, entry(index));
    // Each takes 4 + 1 + 32 of 4096 bytes: 110 are left.
    expect(decode(decoder, hex('be')).fields).toEqual(['k199', 'v']);
    expect(decode(decoder, Buffer.from([0xff, 62 + 109 - 127])).fields).toEqual(['k090', 'v']);
    expect(() => decode(decoder, Buffer.from([0xff, 62 + 110 - 127]))).toThrow(ProtocolError);
    expect(() => decode(decoder, hex('20 be'))).toThrow('entry 62');
  });

  it('reads what the encoder writes', () => {
    const name = constantFrom('grpc-status', 'content-type', ':status', 'x-y_z', 'user-agent');
    const value = stringMatching(/^[!-~]([ -~]{0,200}[!-~])?$/);
    assert(
      property(array(tuple(name, value)), (pairs) => {
        const fields = pairs.flat();
        expect(decode(new HeaderDecoder(1 << 20), encodeHeaders(fields)).fields).toEqual(fields);
      }),
    );
  });

  it.each([
    ['a name in capitals', ['Name', 'value']],
    ['a line break in a value', ['name', 'a\r\nb: c']],
    ['a name with a space', ['na me', 'value']],
    ['a value with a space at its end', ['name', 'value ']],
  ])('says that %s is malformed', (_, fields) => {
    expect(decode(new HeaderDecoder(1_000), encodeHeaders(fields))).toMatchObject({ malformed: true });
  });

  it('holds no more of a list than allowed, however often a block names an entry', () => {
    const decoder = new HeaderDecoder(16_384);
    decode(decoder, Buffer.concat([hex('40 01 6b 7f a1 1e'), Buffer.alloc(4_000, 'v')]));
    const list = decode(decoder, Buffer.alloc(60_000, 0xbe));
    expect(list.tooLarge).toBe(true);
    expect(list.fields.length).toBeLessThan(16);
  });

  it.each([
    ['entry 0', '80'],
    ['an entry that is not there', 'ff 80 01'],
    ['a string past the end', '40 0a 61'],
    ['an integer without end', 'ff ff ff ff ff ff ff'],
    ['a table larger than offered', '3f e2 1f'],
    ['a new table size behind a header', '82 20'],
    ['a block cut off', '40'],
  ])('refuses %s', (_, block) => {
    expect(() => decode(new HeaderDecoder(1_000), hex(block))).toThrow(
      expect.objectContaining({ code: ErrorCode.COMPRESSION_ERROR }) as Error,
    );
  });
});
