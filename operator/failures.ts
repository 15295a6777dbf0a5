// The failure ledger: what is remembered of groups that went down, across restarts of the operator and after their pods are gone. It lives in
// one ConfigMap and is written before pods are removed, so that no failure is forgotten and none is counted twice (`uids` tells).
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { COMPONENTS } from './api.ts';
import { failuresConfigMapName } from './names.ts';
import type { ChildObject, Observed } from './observed.ts';
import type { RankEnd } from './rank-pod.ts';
import { componentLabels, ownerReferences } from './resources/labels.ts';
import { decideRestart, type Exit } from './restart-policy.ts';

/** What is known of one group that failed. A group with an entry and no pods waits to be made again. */
export interface FailureEntry {
  /** Failures in a row that count against the budget. */
  readonly failures: number;
  /** Attempts in a row that were released for want of a place. */
  readonly releases: number;
  readonly kind: 'ended' | 'placement' | 'deadline';
  /** The pods of the attempt that this tells of. */
  readonly uids: readonly string[];
  /** When the first attempt of this row was made. */
  readonly since: string;
  readonly time: string;
  /** When it is tried again; absent = not before the spec changes. */
  readonly retryAt?: string;
  /** Nodes that the next attempt keeps away from. */
  readonly avoidNodes?: readonly string[];
  /** It was a group beyond the wanted number that found no place. */
  readonly surge?: boolean;
  /** Starting again cannot help: bad flags or checkpoint. */
  readonly hopeless?: boolean;
  /** Why the rollout to its revision counts as failed, kept while the group is tried again. */
  readonly rollout?: { readonly reason: string; readonly message: string };
  readonly rank: number;
  readonly exitCode?: number;
  readonly reason: string;
  readonly lastLines: readonly string[];
}

export interface Ledger {
  /** The last revision that all wanted groups were ready with: what is gone back to when a newer one fails. */
  readonly stable: string | undefined;
  readonly groups: ReadonlyMap<string, FailureEntry>;
}

export interface Budget {
  readonly maxRestarts: number;
  readonly stableMs: number;
}

export const HOPELESS_RETRY_MS = 5 * 60_000;
/** A group ready this long has its failures forgotten. */
export const STABLE_MS = 10 * 60_000;
const EXIT_LOST_PEER = 3;
/** Two looks of a kubelet, and times that are cut to the second. */
const CULPRIT_WAIT_MS = 3_000;
const PLACEMENT_FIRST_MS = 5_000;
const PLACEMENT_LONGEST_MS = 60_000;
const MAX_LINES = 20;
const MAX_LINE_LENGTH = 200;
/** A ConfigMap holds 1 MiB: only this many entries keep their lines. */
const ENTRIES_WITH_LINES = 64;
/** Group names have no dot, so this key is none. */
const STABLE_KEY = 'stable.revision';

/** The ledger of a ConfigMap; entries that cannot be read are left out. */
export function parseLedger(configMap: Observed['failures']): Ledger {
  const groups = new Map<string, FailureEntry>();
  const data = configMap?.data ?? {};
  for (const [name, text] of Object.entries(data)) {
    const entry = name === STABLE_KEY ? undefined : parseEntry(text);
    if (entry !== undefined) groups.set(name, entry);
  }
  return { stable: data[STABLE_KEY], groups };
}

/** A failure in words: which rank, how, and its last line. */
export function evidenceOf(entry: FailureEntry): string {
  const code = entry.exitCode === undefined ? '' : `, exit code ${entry.exitCode}`;
  const last = entry.lastLines.at(-1);
  const times = entry.failures > 1 ? ` (${entry.failures} failures in a row)` : '';
  return `rank ${entry.rank}: ${entry.reason}${code}${last === undefined ? '' : `: ${last}`}${times}`;
}

function parseEntry(text: string): FailureEntry | undefined {
  try {
    const entry: unknown = JSON.parse(text);
    if (typeof entry !== 'object' || entry === null) return undefined;
    const { failures, releases, kind, uids, since, time, rank, reason, lastLines } = entry as FailureEntry;
    const whole =
      [failures, releases, rank].every((value) => typeof value === 'number') &&
      [kind, since, time, reason].every((value) => typeof value === 'string') &&
      Array.isArray(uids) &&
      Array.isArray(lastLines);
    return whole ? (entry as FailureEntry) : undefined;
  } catch {
    return undefined; // edited by hand: as good as no memory
  }
}

/** The ConfigMap of a ledger, bounded in size. */
export function ledgerConfigMap(deployment: InternVLDeployment, ledger: Ledger): ChildObject {
  const newest = [...ledger.groups].toSorted(([, a], [, b]) => (a.time < b.time ? 1 : -1));
  const data: Record<string, string> = ledger.stable === undefined ? {} : { [STABLE_KEY]: ledger.stable };
  for (const [rank, [name, entry]] of newest.entries())
    data[name] = JSON.stringify(rank < ENTRIES_WITH_LINES ? entry : { ...entry, lastLines: [] });
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: {
      name: failuresConfigMapName(deployment.metadata.name),
      namespace: deployment.metadata.namespace ?? 'default',
      labels: componentLabels(deployment, COMPONENTS.runtime),
      ...ownerReferences(deployment),
    },
    data,
  };
}

/** The ledger's ConfigMap when it differs from what is stored; undefined = nothing to write. */
export function ledgerChange(
  deployment: InternVLDeployment,
  before: Observed['failures'],
  after: Ledger,
): ChildObject | undefined {
  const written = ledgerConfigMap(deployment, after);
  const text = (data: unknown): string =>
    JSON.stringify(Object.entries(data ?? {}).toSorted(([a], [b]) => (a < b ? -1 : 1)));
  return text(before?.data) === text(written['data']) ? undefined : written;
}

/** Whose end made the others end: the first, and never one that only lost its peer when there is another. */
export function culpritOf(all: readonly RankEnd[]): RankEnd | undefined {
  const own = all.filter(({ exitCode }) => exitCode !== EXIT_LOST_PEER);
  return (own.length > 0 ? own : all).toSorted((a, b) => a.at - b.at || a.rank - b.rank)[0];
}

/**
 * Until when the pods of a group that failed are kept, 0 = not at all. A rank that lost its peer can be seen to end seconds before the peer itself: each
 * kubelet looks once a second, and a pod that is deleted may be gone before its last word is read. Then nobody would know who was killed, or why.
 */
export function keptUntil(ended: readonly RankEnd[], unended: number, now: number): number {
  const onlyLostPeers = ended.length > 0 && ended.every(({ exitCode }) => exitCode === EXIT_LOST_PEER);
  if (!onlyLostPeers || unended <= 0) return 0;
  const first = Math.min(...ended.map(({ at }) => at));
  // A node whose clock is ahead holds nothing up for long.
  return first <= now + CULPRIT_WAIT_MS && now < first + CULPRIT_WAIT_MS ? first + CULPRIT_WAIT_MS : 0;
}

/** What a failed attempt was. */
export interface Attempt {
  readonly name: string;
  readonly uids: readonly string[];
  readonly createdAt: number;
  /** How long a router had acknowledged it, 0 when none ever did. */
  readonly readyMs: number;
}

/** The entry after a rank ended; the same failure seen again changes nothing but a better-known culprit. */
export function afterEnd(
  attempt: Attempt,
  ended: readonly RankEnd[],
  before: FailureEntry | undefined,
  budget: Budget,
  now: number,
): FailureEntry | undefined {
  const culprit = culpritOf(ended);
  if (culprit === undefined) return before;
  const seen = before !== undefined && sameAttempt(before, attempt);
  if (seen && !isBetterCulprit(before, culprit)) return before;
  const inARow = seen ? before.failures - 1 : (before?.failures ?? 0);
  const exit: Exit = { process: `rank-${culprit.rank}`, code: culprit.exitCode ?? null, signal: null };
  const decision = decideRestart([exit], inARow, attempt.readyMs, budget);
  const hopeless = decision.action === 'stop' && decision.reason === 'hopeless';
  const failures = attempt.readyMs >= budget.stableMs ? 1 : inARow + 1;
  const delayMs = hopeless ? HOPELESS_RETRY_MS : decision.action === 'restart' ? decision.delayMs : undefined;
  return {
    failures,
    releases: 0,
    kind: 'ended',
    uids: attempt.uids,
    since: attempt.readyMs > 0 ? iso(now) : (before?.since ?? iso(attempt.createdAt || now)),
    time: iso(culprit.at || now),
    ...(delayMs !== undefined && { retryAt: iso(now + withJitter(delayMs, attempt.name, failures)) }),
    ...(hopeless && { hopeless }),
    ...(before?.rollout && attempt.readyMs === 0 && { rollout: before.rollout }),
    rank: culprit.rank,
    ...(culprit.exitCode !== undefined && { exitCode: culprit.exitCode }),
    reason: culprit.reason,
    lastLines: lastLines(culprit.message),
  };
}

/** The entry after all pods of an attempt were released for want of a place, or were lost before they ever served; not counted. */
export function afterRelease(
  attempt: Attempt,
  why: {
    readonly reason: string;
    readonly message: string;
    readonly avoidNodes: readonly string[];
    readonly surge: boolean;
  },
  before: FailureEntry | undefined,
  now: number,
): FailureEntry {
  if (before !== undefined && sameAttempt(before, attempt)) return before;
  const releases = (before?.releases ?? 0) + 1;
  const delayMs = Math.min(PLACEMENT_LONGEST_MS, PLACEMENT_FIRST_MS * 2 ** Math.min(releases - 1, 10));
  const told =
    before?.kind === 'ended'
      ? {}
      : { rank: 0, reason: why.reason, lastLines: lastLines(why.message), time: iso(now) };
  const { avoidNodes: _, surge: __, retryAt: ___, ...rest } = { ...before };
  return {
    failures: 0,
    kind: 'placement',
    rank: 0,
    reason: why.reason,
    time: iso(now),
    lastLines: [],
    ...rest,
    ...told,
    releases,
    uids: attempt.uids,
    since: before?.since ?? iso(attempt.createdAt || now),
    retryAt: iso(now + withJitter(before?.rollout ? HOPELESS_RETRY_MS : delayMs, attempt.name, releases)),
    ...(why.avoidNodes.length > 0 && { avoidNodes: why.avoidNodes }),
    ...(why.surge && { surge: true }),
  };
}

/** The entry of a group of a failed revision that gives up its place: why the rollout failed outlives its pods. */
export function afterRolloutFailure(
  attempt: Attempt,
  rollout: { readonly reason: string; readonly message: string },
  before: FailureEntry | undefined,
  now: number,
): FailureEntry {
  if (before?.rollout !== undefined && sameAttempt(before, attempt)) return before;
  const base: FailureEntry = before ?? {
    failures: 0,
    releases: 0,
    kind: 'deadline',
    uids: attempt.uids,
    since: iso(attempt.createdAt || now),
    time: iso(now),
    rank: 0,
    reason: rollout.reason,
    lastLines: lastLines(rollout.message),
  };
  const retryAt = iso(now + withJitter(HOPELESS_RETRY_MS, attempt.name, base.failures));
  return { ...base, uids: attempt.uids, rollout, ...(base.failures === 0 && { retryAt }) };
}

/** True when the entry tells of this very attempt. */
export function sameAttempt(entry: FailureEntry, attempt: { readonly uids: readonly string[] }): boolean {
  return attempt.uids.some((uid) => entry.uids.includes(uid));
}

/** Up to a fifth longer, by name and attempt, so that groups that failed together do not come back together. */
export function withJitter(delayMs: number, name: string, attempt: number): number {
  let hash = 2166136261;
  for (const char of `${name}#${attempt}`) hash = Math.imul(hash ^ (char.codePointAt(0) ?? 0), 16777619);
  return Math.round(delayMs * (1 + (hash >>> 0) / 2 ** 32 / 5));
}

/** A rank that lost its peer is often seen first; the peer's own end follows. Ends by our own deletion explain nothing. */
function isBetterCulprit(before: FailureEntry, { exitCode, whileDeleted }: RankEnd): boolean {
  if (before.kind !== 'ended' || before.exitCode !== EXIT_LOST_PEER) return false;
  if (whileDeleted) return exitCode !== undefined && ![EXIT_LOST_PEER, 0, 137, 143].includes(exitCode);
  return exitCode !== EXIT_LOST_PEER;
}

function lastLines(message: string): string[] {
  const lines = message.split('\n').filter((line) => line.trim() !== '');
  // The kubelet takes the last 2 KiB of a log: its first line then lacks its beginning.
  const [first = '', ...rest] = lines;
  const isCut = rest.length > 0 && !first.startsWith('{') && rest.every((line) => line.startsWith('{'));
  return (isCut ? rest : lines).slice(-MAX_LINES).map((line) => line.slice(0, MAX_LINE_LENGTH));
}

function iso(time: number): string {
  return new Date(time).toISOString();
}
