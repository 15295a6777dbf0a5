// A checkpoint's folder without weights: a shape, and a tokenizer of its vocabulary's size, which is the demo model's with words that no text has.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BinaryWriter } from '@bufbuild/protobuf/wire';
import { parseSentencePieceModel } from '../runtime/tokenizer/sentencepiece-model.ts';

interface SizedShape {
  readonly llm_config: { readonly vocab_size: number };
}

interface TokenizerConfig {
  readonly added_tokens_decoder: Readonly<Record<string, unknown>>;
}

/** `demo`: the demo model's folder. For `--load-format dummy`. */
export function writeModelDirectory(folder: string, shape: SizedShape, demo: string): void {
  mkdirSync(folder, { recursive: true });
  const read = (name: string): Buffer => readFileSync(join(demo, name));
  const write = (name: string, content: unknown): void =>
    writeFileSync(
      join(folder, name),
      Buffer.isBuffer(content) ? content : `${JSON.stringify(content, null, 1)}\n`,
    );
  const pieces = read('tokenizer.model');
  const added = JSON.parse(read('added_tokens.json').toString()) as Record<string, number>;
  const base = parseSentencePieceModel(pieces).pieces.length;
  const more = shape.llm_config.vocab_size - base - Object.keys(added).length;
  if (more < 0) throw new RangeError(`the demo model's ${base} pieces are more than the vocabulary`);
  const moved = (id: number): number => (id < base ? id : id + more);
  const config = JSON.parse(read('tokenizer_config.json').toString()) as TokenizerConfig;
  const decoder = Object.entries(config.added_tokens_decoder).map(([id, token]) => [
    moved(Number(id)),
    token,
  ]);
  write('config.json', shape);
  // Messages that follow one another are one message, whose lists follow one another.
  write(
    'tokenizer.model',
    Buffer.concat([pieces, ...Array.from({ length: more }, (_, i) => unusedPiece(i))]),
  );
  write(
    'added_tokens.json',
    Object.fromEntries(Object.entries(added).map(([token, id]) => [token, moved(id)])),
  );
  write('tokenizer_config.json', { ...config, added_tokens_decoder: Object.fromEntries(decoder) });
  for (const name of ['special_tokens_map.json', 'generation_config.json']) write(name, read(name));
}

/** ModelProto.pieces, of the type "normal" that is the default; nothing can be merged into it. */
function unusedPiece(index: number): Uint8Array {
  const piece = new BinaryWriter().tag(1, 2).string(`word${index}`).tag(2, 5).float(-1e9).finish();
  return new BinaryWriter().tag(1, 2).bytes(piece).finish();
}
