import type { V1Volume } from '@kubernetes/client-node';

/** A source that cannot be mounted; the message names it and what works. */
export class UnsupportedSource extends Error {
  override readonly name = 'UnsupportedSource';
  readonly code = 'unsupported_source';
}

/** The checkpoint's volume and, for a directory inside it, the path below its root; throws UnsupportedSource. */
export function modelVolume(source: string): { volume: V1Volume; subPath?: string } {
  const file = /^file:\/\/(\/[^/].*)$/.exec(source)?.[1];
  if (file !== undefined) return { volume: { name: 'model', hostPath: { path: file, type: 'Directory' } } };

  const claim = /^pvc:\/\/([a-z0-9.-]+)(?:\/(.*))?$/.exec(source);
  if (claim?.[1] !== undefined) {
    const volume = { name: 'model', persistentVolumeClaim: { claimName: claim[1], readOnly: true } };
    const subPath = (claim[2] ?? '').replaceAll(/^\/+|\/+$/g, '');
    return subPath === '' ? { volume } : { volume, subPath };
  }
  throw new UnsupportedSource(
    `spec.model.source is ${source}; what can be mounted is pvc://claim/path and file:///absolute/path`,
  );
}

/** Why ranks cannot have the deployment's model, as the message of the condition ModelLoaded; undefined where they can. */
export function modelSourceProblem(deployment: {
  readonly spec: { readonly model: { readonly source: string } };
}): string | undefined {
  try {
    modelVolume(deployment.spec.model.source);
    return undefined;
  } catch (error) {
    if (!(error instanceof UnsupportedSource)) throw error;
    return error.message;
  }
}
