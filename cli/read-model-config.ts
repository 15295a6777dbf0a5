import { join } from 'node:path';
import { assertModelDirectory } from '../local/model-directory.ts';
import { parseModelConfig, type ModelConfig } from '../runtime/model/config.ts';
import { usageError } from './cli-error.ts';
import { readTextFile } from './read-input.ts';

/** The model that a directory's config.json tells of; throws ManifestError, ConfigError or a UsageError, which name the path or key. */
export async function readModelConfig(directory: string): Promise<ModelConfig> {
  await assertModelDirectory(directory, '--model');
  const path = join(directory, 'config.json');
  const text = await readTextFile(path, '--model');
  let config: unknown;
  try {
    config = JSON.parse(text);
  } catch (error) {
    throw usageError(`${path} is not JSON: ${(error as Error).message}`);
  }
  return parseModelConfig(config);
}
