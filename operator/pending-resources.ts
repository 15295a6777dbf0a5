import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import type { ChildObject } from './observed.ts';
import { routerDeployment } from './resources/router.ts';
export const children = (d: InternVLDeployment, c: { routerImage: string }): ChildObject[] => [
  routerDeployment(d, c) as unknown as ChildObject,
];
export const interconnectState = (_d: InternVLDeployment) => ({
  status: 'True' as const,
  reason: 'NotApplicable',
  message: '',
  blocksPods: false,
});
