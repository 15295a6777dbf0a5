import { readFile } from 'node:fs/promises';
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { ManifestError } from './manifest-error.ts';
import { parseManifest } from './manifest.ts';
import { assertModelDirectory, modelDirectory, withModelDirectory } from './model-directory.ts';

/** The deployment in a file, checked and with its model's directory found; throws ManifestError. */
export async function readManifest(file: string): Promise<InternVLDeployment> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    const why = error.code === 'ENOENT' ? 'there is no such file' : error.message;
    throw new ManifestError([`${file}: ${why}`]);
  });
  const deployment = parseManifest(text, file);
  if (deployment.spec.replicas === 0)
    throw new ManifestError([`${file}: spec.replicas: found 0; running locally needs at least one replica`]);
  const { source } = deployment.spec.model;
  const directory = modelDirectory(source, file);
  await assertModelDirectory(directory, `${file}: spec.model.source: ${source}`);
  return withModelDirectory(deployment, directory);
}
