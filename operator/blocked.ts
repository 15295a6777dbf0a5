// What keeps every rank pod of a spec from being made.
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { interconnectState } from './interconnect.ts';
import { modelSourceProblem } from './resources/model-volume.ts';
import type { Trouble } from './rollout.ts';

/** Why no rank pod of this spec may be made. */
export function blockedBy(deployment: InternVLDeployment): Trouble | undefined {
  const source = modelSourceProblem(deployment);
  if (source !== undefined) return { reason: 'SourceNotSupported', message: source };
  const { blocksPods, reason, message } = interconnectState(deployment);
  return blocksPods ? { reason, message } : undefined;
}
