// The Huffman code of HPACK (RFC 7541, appendix B). It is canonical: codes of one length follow each other in the order of their symbols, so
// that the lengths alone say everything.

/** Bits of the code of each byte, and of the end of the string (256). */
// prettier-ignore
const LENGTHS = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
  26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
  20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
  30,
];
const END = 256;
const LONGEST = 30;
/** Codes of at most so many bits are looked up whole; those of letters, digits and most signs are. */
const SHORT = 8;

/** Symbols in the order of their codes. */
const symbols: number[] = [];
/** Of each length: its first code, how many there are, and where their symbols begin. */
const first = new Uint32Array(LONGEST + 1);
const counts = new Uint16Array(LONGEST + 1);
const starts = new Uint16Array(LONGEST + 1);
/** By the next eight bits: symbol and length of the code they begin with, 0 where it is longer. */
const short = new Uint16Array(1 << SHORT);
/** For texts of usual length while they are read. */
const scratch = Buffer.allocUnsafeSlow(1_024);

for (let length = 1, code = 0; length <= LONGEST; length++, code *= 2) {
  first[length] = code;
  starts[length] = symbols.length;
  for (let symbol = 0; symbol <= END; symbol++) {
    if (LENGTHS[symbol] !== length) continue;
    symbols.push(symbol);
    counts[length]! += 1;
    if (length <= SHORT)
      short.fill((symbol << 4) | length, code << (SHORT - length), (code + 1) << (SHORT - length));
    code++;
  }
}

/** The text in `bytes` from `at` to `end`, a character for each byte; undefined when they are no such text. */
export function decodeHuffman(bytes: Uint8Array, at: number, end: number): string | undefined {
  // The shortest codes have five bits.
  const most = ((end - at) * 8) / 5;
  const text = most <= scratch.length ? scratch : Buffer.allocUnsafe(Math.ceil(most));
  let length = 0;
  let bits = 0; // at most 7 + 8 + what a long code has, always below 2^31
  let held = 0;
  for (;;) {
    while (held < SHORT && at < end) {
      bits = ((bits << 8) | bytes[at++]!) & 0xffff;
      held += 8;
    }
    if (held < SHORT) break;
    const found = short[(bits >>> (held - SHORT)) & 0xff]!;
    if (found !== 0) {
      held -= found & 15;
      text[length++] = found >>> 4;
      continue;
    }
    // A long code: bit by bit from where it begins.
    let code = (bits >>> (held - SHORT)) & 0xff;
    held -= SHORT;
    let symbol = -1;
    for (let bitCount = SHORT + 1; bitCount <= LONGEST; bitCount++) {
      if (held === 0) {
        if (at === end) return undefined;
        bits = bytes[at++]!;
        held = 8;
      }
      held--;
      code = code * 2 + ((bits >>> held) & 1);
      const rank = code - first[bitCount]!;
      if (rank >= 0 && rank < counts[bitCount]!) {
        symbol = symbols[starts[bitCount]! + rank]!;
        break;
      }
    }
    if (symbol < 0 || symbol === END) return undefined;
    text[length++] = symbol;
  }
  // Fewer than eight bits are left: short codes, then ones that fill the last byte.
  while (held > 0) {
    const rest = bits & ((1 << held) - 1);
    const found = short[((rest << (SHORT - held)) | ((1 << (SHORT - held)) - 1)) & 0xff]!;
    if (found === 0 || (found & 15) > held) {
      if (rest !== (1 << held) - 1) return undefined;
      break;
    }
    held -= found & 15;
    text[length++] = found >>> 4;
  }
  return text.toString('latin1', 0, length);
}
