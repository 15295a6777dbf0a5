import type { V1Probe } from '@kubernetes/client-node';

/** /healthz speaks of life alone, loading included; only a process that hangs fails it. */
export function livenessProbe(metricsPort: number): V1Probe {
  return {
    httpGet: { path: '/healthz', port: metricsPort },
    periodSeconds: 5,
    timeoutSeconds: 5,
    failureThreshold: 3,
  };
}
