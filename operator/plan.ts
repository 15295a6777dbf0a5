import type { V1Deployment, V1Pod, V1Service } from '@kubernetes/client-node';
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';
import { replicaName } from './names.ts';
import { rankAddress, rankPods } from './resources/rank-pods.ts';
import { ranksService, routerDeployment, routerService } from './resources/router.ts';
import { revisionOf } from './revision.ts';

/** What the operator's own release decides. */
export interface PlanConfig {
  readonly runtimeImage: string;
  readonly routerImage: string;
}

/** One tensor-parallel group: its pods in rank order, and where its leader is reached. */
export interface PlannedReplica {
  readonly name: string;
  readonly address: string;
  readonly pods: readonly V1Pod[];
}

/** Everything that must exist for a deployment. */
export interface Plan {
  readonly revision: string;
  readonly replicas: readonly PlannedReplica[];
  readonly ranksService: V1Service;
  readonly router: V1Deployment;
  readonly routerService: V1Service;
}

/** What must exist for `deployment`, whose defaults are applied. Pure: same input, same output; throws UnsupportedSource. */
export function plan(deployment: InternVLDeployment, config: PlanConfig): Plan {
  const { spec, metadata } = deployment;
  const namespace = metadata.namespace ?? 'default';
  const revision = revisionOf(deployment);
  const replicas = Array.from({ length: spec.replicas }, (_, replica): PlannedReplica => {
    const place = { revision, replica, namespace, image: spec.image ?? config.runtimeImage };
    return {
      name: replicaName(metadata.name, revision, replica),
      address: rankAddress(deployment, place, 0),
      pods: rankPods(deployment, place),
    };
  });
  return {
    revision,
    replicas,
    ranksService: ranksService(deployment, namespace),
    router: routerDeployment(deployment, {
      namespace,
      image: spec.router.image ?? config.routerImage,
      targets: replicas.map(({ name, address }) => ({ name, address })),
    }),
    routerService: routerService(deployment, namespace),
  };
}
