// Every child's name is a function of what it stands for, so that a stale cache costs a redundant write and never a second object.
// All results are DNS labels (63 characters at most): pod names are host names here.
import { createHash } from 'node:crypto';

const MAX_LABEL = 63;
// "-<revision 8>-<replica 4>-<rank 1>", the longest suffix.
const LONGEST_SUFFIX = 16;
const HASH_LENGTH = 8;

/** The deployment's name as a DNS label that leaves room for every suffix; long or dotted names end in a hash of the whole. */
export function baseName(deployment: string): string {
  const longest = MAX_LABEL - LONGEST_SUFFIX;
  if (deployment.length <= longest && !deployment.includes('.')) return deployment;
  const head = deployment
    .replaceAll('.', '-')
    .slice(0, longest - HASH_LENGTH - 1)
    .replace(/-+$/, '');
  return `${head}-${shortHash(deployment)}`;
}

/** One tensor-parallel group. */
export function replicaName(deployment: string, revision: string, replica: number): string {
  return `${baseName(deployment)}-${revision}-${replica}`;
}

/** One rank of a group: its pod and its host name. */
export function rankName(deployment: string, revision: string, replica: number, rank: number): string {
  return `${replicaName(deployment, revision, replica)}-${rank}`;
}

/** The one device claim of a group, where devices come from Dynamic Resource Allocation. */
export function resourceClaimName(deployment: string, revision: string, replica: number): string {
  return replicaName(deployment, revision, replica);
}

/** What a revision's groups are made from. */
export function revisionConfigMapName(deployment: string, revision: string): string {
  return `${baseName(deployment)}-${revision}`;
}

/** Where each router writes what it knows of the groups. */
export function routersConfigMapName(deployment: string): string {
  return `${baseName(deployment)}-routers`;
}

/** Where failures in a row and their evidence are kept. */
export function failuresConfigMapName(deployment: string): string {
  return `${baseName(deployment)}-failures`;
}

/** The headless Service that gives rank pods their host names. */
export function ranksServiceName(deployment: string): string {
  return `${baseName(deployment)}-ranks`;
}

/** What rank pods run as; it has no rights and its token is not mounted. */
export function ranksAccountName(deployment: string): string {
  return `${baseName(deployment)}-ranks`;
}

/** Disruption budget and network policy of the rank pods. */
export function ranksPolicyName(deployment: string): string {
  return `${baseName(deployment)}-ranks`;
}

/** The router's Deployment, and the Service that clients call. */
export function routerName(deployment: string): string {
  return `${baseName(deployment)}-router`;
}

/** What router pods run as, and the Role that this account has. */
export function routerAccountName(deployment: string): string {
  return `${baseName(deployment)}-router`;
}

/** The first characters of a SHA-256, in lower-case hex. */
export function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, HASH_LENGTH);
}
