import type { EngineClient, TokenizerChunk } from '../gen/proto/internvl/engine/v1/engine.ts';
import type { TokenizerFiles } from './models.ts';

/** Tokenizer files of this family are below 3 MB; anything near this is not one. */
const MAX_BYTES = 64 << 20;
const DEADLINE_MS = 60_000;

/** The files that a replica's checkpoint has for tokenizing, by name. */
export async function fetchTokenizerFiles(
  client: Pick<EngineClient, 'getTokenizer'>,
): Promise<TokenizerFiles> {
  const chunks = new Map<string, Uint8Array[]>();
  let bytes = 0;
  const call = client.getTokenizer({}, { deadline: Date.now() + DEADLINE_MS });
  for await (const { fileName, chunk } of call as AsyncIterable<TokenizerChunk>) {
    bytes += chunk.length;
    if (bytes > MAX_BYTES) {
      call.cancel();
      throw new Error(`its tokenizer files are larger than ${MAX_BYTES} bytes`);
    }
    const file = chunks.get(fileName);
    if (file === undefined) chunks.set(fileName, [chunk]);
    else file.push(chunk);
  }
  return new Map([...chunks].map(([name, parts]) => [name, Buffer.concat(parts)]));
}
