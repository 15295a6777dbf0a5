import { stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { ManifestError } from './manifest-error.ts';

/** The directory that `spec.model.source` names, relative ones from the manifest's folder; throws ManifestError for other schemes. */
export function modelDirectory(source: string, manifestFile: string): string {
  const path = /^file:(?:\/\/(?=\/))?(.+)$/.exec(source)?.[1];
  if (path === undefined || path.startsWith('//')) {
    throw new ManifestError([
      `${manifestFile}: spec.model.source: found "${source}"; running locally needs a directory of this machine: ` +
        'file:///absolute/path, or file:path relative to the manifest',
    ]);
  }
  return resolve(dirname(manifestFile), path);
}

/** Throws ManifestError unless the directory is there and has `file`; `what` says where the path comes from. */
export async function assertModelDirectory(
  directory: string,
  what: string,
  file = 'config.json',
): Promise<void> {
  const found = await stat(directory).catch(() => undefined);
  if (found === undefined) throw new ManifestError([`${what}: there is no directory ${directory}`]);
  if (!found.isDirectory()) throw new ManifestError([`${what}: ${directory} is no directory`]);
  const wanted = await stat(join(directory, file)).catch(() => undefined);
  if (wanted === undefined)
    throw new ManifestError([
      `${what}: ${directory} has no ${file}, so it is no checkpoint in the Hugging Face layout`,
    ]);
}

/** The deployment with its model's source as an absolute path, as the planner needs it. */
export function withModelDirectory(deployment: InternVLDeployment, directory: string): InternVLDeployment {
  return {
    ...deployment,
    spec: { ...deployment.spec, model: { ...deployment.spec.model, source: `file://${directory}` } },
  };
}
