import { assertModelDirectory } from '../local/model-directory.ts';
import { Tokenizer } from '../runtime/tokenizer/tokenizer.ts';

/** The tokenizer of a checkpoint directory; throws ManifestError or TokenizerError, which name the path or file. */
export async function openTokenizer(directory: string): Promise<Tokenizer> {
  await assertModelDirectory(directory, '--model', 'tokenizer.model');
  return Tokenizer.fromDirectory(directory);
}
