// What PodSecurity level `restricted` asks for, and a user of its own beside it.
import type { V1PodSecurityContext, V1SecurityContext } from '@kubernetes/client-node';

const USER = 65532;

/** New volumes belong to the group; what a claim already holds is not walked through at every start when its root is right. */
export const POD_SECURITY: V1PodSecurityContext = {
  runAsNonRoot: true,
  runAsUser: USER,
  runAsGroup: USER,
  fsGroup: USER,
  fsGroupChangePolicy: 'OnRootMismatch',
  seccompProfile: { type: 'RuntimeDefault' },
};

export const CONTAINER_SECURITY: V1SecurityContext = {
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ['ALL'] },
};
