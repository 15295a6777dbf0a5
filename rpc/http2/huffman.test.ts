import { describe, expect, it } from 'vitest';
import { decodeHuffman } from './huffman.ts';

const decode = (hex: string): string | undefined => {
  const bytes = Buffer.from(hex.replaceAll(' ', ''), 'hex');
  return decodeHuffman(bytes, 0, bytes.length);
};

describe('decodeHuffman', () => {
  it.each([
    ['f1e3 c2e5 f23a 6ba0 ab90 f4ff', 'www.example.com'],
    ['a8eb 1064 9cbf', 'no-cache'],
    ['25a8 49e9 5bb8 e8b4 bf', 'custom-value'],
    ['d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff', 'Mon, 21 Oct 2013 20:13:21 GMT'],
    ['9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3', 'https://www.example.com'],
    ['ffc7', '\0'],
    ['', ''],
  ])('reads %s', (hex, text) => expect(decode(hex)).toBe(text));

  it.each([
    ['a whole byte of padding', 'a8eb 1064 9cbf ff'],
    ['padding that is not ones', '18'],
    ['the end of the string inside it', 'ffff fffc'],
    ['a long code that is cut off', 'ffff'],
  ])('refuses %s', (_, hex) => expect(decode(hex)).toBeUndefined());
});
