// What is worth an event: the difference between two statuses. Pure; repeats are the recorder's concern.
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { CONDITIONS } from './api.ts';
import type { Condition, DeploymentStatus } from './status.ts';

export interface StatusEvent {
  readonly type: 'Normal' | 'Warning';
  readonly reason: string;
  readonly message: string;
}

type Status = InternVLDeployment['status'];

/** Events for what changed from one status to the next. */
export function events(before: Status, after: Status): StatusEvent[] {
  const old = before as Partial<DeploymentStatus> | undefined;
  const current = after as Partial<DeploymentStatus> | undefined;
  if (current === undefined) return [];
  return [...conditionEvents(old, current), ...replicaEvents(old, current), ...failureEvents(old, current)];
}

function conditionEvents(
  old: Partial<DeploymentStatus> | undefined,
  current: Partial<DeploymentStatus>,
): StatusEvent[] {
  return (current.conditions ?? []).flatMap((condition): StatusEvent[] => {
    const previous = old?.conditions?.find(({ type }) => type === condition.type);
    if (previous?.status === condition.status && previous.reason === condition.reason) return [];
    const event = EVENTS[condition.type]?.(condition, previous);
    return event === undefined ? [] : [event];
  });
}

const EVENTS: Readonly<
  Record<string, (now: Condition, before: Condition | undefined) => StatusEvent | undefined>
> = {
  [CONDITIONS.ready]: (now, before) =>
    now.status === 'True'
      ? { type: 'Normal', reason: 'Ready', message: now.message }
      : before?.status === 'True'
        ? { type: 'Warning', reason: 'NotReady', message: now.message }
        : undefined,
  [CONDITIONS.progressing]: (now) => ({
    type: now.status === 'False' ? 'Warning' : 'Normal',
    reason: now.reason,
    message: now.message,
  }),
  [CONDITIONS.modelLoaded]: (now) =>
    now.reason === 'SourceNotSupported'
      ? { type: 'Warning', reason: now.reason, message: now.message }
      : undefined,
  [CONDITIONS.interconnectVerified]: (now) =>
    now.status === 'False'
      ? { type: 'Warning', reason: now.reason, message: now.message }
      : now.reason === 'Measured'
        ? { type: 'Normal', reason: 'InterconnectVerified', message: now.message }
        : undefined,
  [CONDITIONS.degraded]: (now, before) =>
    now.status === 'True'
      ? { type: 'Warning', reason: now.reason, message: now.message }
      : before?.status === 'True'
        ? { type: 'Normal', reason: 'Recovered', message: 'nothing is wrong any more' }
        : undefined,
};

function replicaEvents(
  old: Partial<DeploymentStatus> | undefined,
  current: Partial<DeploymentStatus>,
): StatusEvent[] {
  return (current.groups ?? []).flatMap((group): StatusEvent[] => {
    const previous = old?.groups?.find(({ name }) => name === group.name);
    if (previous?.ready !== true && group.ready)
      return [{ type: 'Normal', reason: 'ReplicaReady', message: `replica ${group.name} is ready` }];
    if (previous?.phase !== 'Draining' && group.phase === 'Draining')
      return [
        { type: 'Normal', reason: 'ReplicaDraining', message: `replica ${group.name} takes no new work` },
      ];
    return [];
  });
}

function failureEvents(
  old: Partial<DeploymentStatus> | undefined,
  current: Partial<DeploymentStatus>,
): StatusEvent[] {
  const { lastFailure } = current;
  const same = old?.lastFailure?.group === lastFailure?.group && old?.lastFailure?.time === lastFailure?.time;
  if (lastFailure === undefined || same) return [];
  const { group, rank, exitCode, reason } = lastFailure;
  const code = exitCode === undefined ? '' : `, exit code ${exitCode}`;
  return [
    { type: 'Warning', reason: 'ReplicaFailed', message: `replica ${group} rank ${rank}: ${reason}${code}` },
  ];
}
