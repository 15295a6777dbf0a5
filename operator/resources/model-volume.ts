import type { V1Volume } from '@kubernetes/client-node';
import type { InternVLDeployment } from '../../gen/crd/internvl-deployment.ts';

/** A source that this planner cannot mount; the message names the scheme and what works. */
export class UnsupportedSource extends Error {
  override readonly name = 'UnsupportedSource';
  readonly code = 'unsupported_source';
}

/** The checkpoint's volume and, for a directory inside it, the path below its root; throws UnsupportedSource. */
export function modelVolume(deployment: InternVLDeployment): { volume: V1Volume; subPath?: string } {
  const { source } = deployment.spec.model;
  const file = /^file:\/\/(\/.*)$/.exec(source)?.[1];
  if (file !== undefined) return { volume: { name: 'model', hostPath: { path: file, type: 'Directory' } } };

  const claim = /^pvc:\/\/([a-z0-9.-]+)(?:\/(.*))?$/.exec(source);
  if (claim?.[1] !== undefined) {
    const volume = { name: 'model', persistentVolumeClaim: { claimName: claim[1], readOnly: true } };
    const subPath = claim[2] ?? '';
    return subPath === '' ? { volume } : { volume, subPath };
  }
  throw new UnsupportedSource(
    `spec.model.source is ${source}; what can be mounted is file:///absolute/path and pvc://claim/path`,
  );
}
