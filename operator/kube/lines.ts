import { TransportError } from './errors.ts';

/**
 * The lines of a stream of bytes, without their ends, however the bytes were cut. Throws `ResponseTooLarge` for a line longer than `limitBytes` and
 * `Malformed` when the stream ends inside a line.
 */
export async function* lines(
  body: AsyncIterable<Buffer>,
  limitBytes: number,
): AsyncGenerator<string, void, undefined> {
  let parts: Buffer[] = [];
  let length = 0;
  for await (const chunk of body) {
    let from = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
      parts.push(chunk.subarray(from, end));
      const line = (parts.length === 1 ? parts[0]! : Buffer.concat(parts)).toString('utf8');
      parts = [];
      length = 0;
      from = end + 1;
      if (line.trim() !== '') yield line;
    }
    if (from === chunk.length) continue;
    parts.push(chunk.subarray(from));
    length += chunk.length - from;
    if (length > limitBytes)
      throw new TransportError('ResponseTooLarge', `a line is longer than ${limitBytes} bytes`);
  }
  if (length > 0)
    throw new TransportError('Malformed', `the stream ended inside a line, after ${length} bytes of it`);
}
