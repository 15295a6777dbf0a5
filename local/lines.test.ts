import { describe, expect, it } from 'vitest';
import { LineSplitter } from './lines.ts';

function split(chunks: readonly Uint8Array[], maxLength?: number): string[] {
  const lines: string[] = [];
  const splitter = new LineSplitter((line) => lines.push(line), maxLength);
  for (const chunk of chunks) splitter.push(chunk);
  splitter.end();
  return lines;
}

const bytes = (text: string) => new TextEncoder().encode(text);

describe('LineSplitter', () => {
  it.each([
    ['lines in one chunk', ['a\nb\n'], ['a', 'b']],
    ['a line over chunks', ['a', 'b', '\nc'], ['ab', 'c']],
    ['empty lines', ['\n\na'], ['', '', 'a']],
    ['nothing', [], []],
  ])('splits %s', (_, chunks, lines) => expect(split(chunks.map(bytes))).toEqual(lines));

  it('keeps characters whole that come in two chunks', () => {
    const text = bytes('世\n');
    expect(split([text.subarray(0, 2), text.subarray(2)])).toEqual(['世']);
  });

  it('cuts what is too long instead of holding it', () => {
    expect(split([bytes('abcdef'), bytes('ghi\nx')], 4)).toEqual(['abcd', 'x']);
  });
});
