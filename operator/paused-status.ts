import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { ANNOTATIONS, CONDITIONS } from './api.ts';

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
  readonly lastTransitionTime: string;
  readonly observedGeneration?: number;
}

/** The status as it was, except that Progressing says that nothing is done. observedGeneration stays: the spec is not acted on. */
export function pausedStatus(deployment: InternVLDeployment, now: number): InternVLDeployment['status'] {
  const before = (deployment.status ?? {}) as { conditions?: readonly Condition[] };
  const conditions = before.conditions ?? [];
  const progressing = conditions.find(({ type }) => type === CONDITIONS.progressing);
  if (progressing?.reason === 'Paused') return deployment.status;
  const { generation } = deployment.metadata;
  const paused: Condition = {
    type: CONDITIONS.progressing,
    status: 'Unknown',
    reason: 'Paused',
    message: `nothing is changed while the annotation ${ANNOTATIONS.paused} is "true"`,
    // `Z` without fractions, as the API server writes times.
    lastTransitionTime:
      progressing?.status === 'Unknown'
        ? progressing.lastTransitionTime
        : `${new Date(now).toISOString().slice(0, 19)}Z`,
    ...(generation !== undefined && { observedGeneration: generation }),
  };
  const others = conditions.filter(({ type }) => type !== CONDITIONS.progressing);
  return { ...before, conditions: [...others, paused] } as InternVLDeployment['status'];
}
