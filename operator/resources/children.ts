import type { InternVLDeployment } from '../../gen/crd/internvl-deployment.ts';
import type { ChildObject } from '../observed.ts';
import { ranksAccount, reportConfigMap, routerAccount, routerRole, routerRoleBinding } from './access.ts';
import { ranksBudget, routerBudget } from './disruption-budgets.ts';
import { ranksPolicy, routerPolicy } from './network-policies.ts';
import { ranksService } from './ranks-service.ts';
import { routerDeployment, routerService } from './router.ts';

/** What of the operator's release and settings decides on the children. */
export interface ChildrenConfig {
  readonly routerImage: string;
  readonly networkPolicy: boolean;
}

/** All children but rank pods, claims and revision and failure ConfigMaps, in an order in which each finds what it names. */
export function children(deployment: InternVLDeployment, config: ChildrenConfig): ChildObject[] {
  const made = [
    ranksAccount(deployment),
    routerAccount(deployment),
    reportConfigMap(deployment),
    routerRole(deployment),
    routerRoleBinding(deployment),
    ranksService(deployment),
    routerService(deployment),
    ranksBudget(deployment),
    ...(deployment.spec.router.replicas > 1 ? [routerBudget(deployment)] : []),
    ...(config.networkPolicy ? [ranksPolicy(deployment), routerPolicy(deployment)] : []),
    routerDeployment(deployment, config),
  ];
  // The client's model types leave every field open; these makers set all that a child has.
  return made as unknown as ChildObject[];
}
