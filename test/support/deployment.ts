import type { InternVLDeployment } from '../../gen/crd/internvl-deployment.ts';
import type { PlanConfig } from '../../operator/plan.ts';
import { parseManifest } from '../../local/manifest.ts';

/** A deployment with the CRD's defaults, checked against it; `spec` stands over a model in /models/demo. */
export function aDeployment(spec: Record<string, unknown> = {}): InternVLDeployment {
  const manifest = {
    apiVersion: 'internvl.dev/v1alpha1',
    kind: 'InternVLDeployment',
    metadata: { name: 'demo', namespace: 'vision' },
    spec: { model: { source: 'file:///models/demo' }, ...spec },
  };
  return parseManifest(JSON.stringify(manifest), 'test');
}

/** What the operator is started with, in tests. */
export const PLAN_CONFIG: PlanConfig = {
  runtimeImage: 'runtime:1',
  routerImage: 'router:1',
  placementTimeoutMs: 30_000,
  nodeLostTimeoutMs: 0,
  networkPolicy: false,
};
