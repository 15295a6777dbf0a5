import type { V1Probe } from '@kubernetes/client-node';

/** /healthz speaks of life alone, loading included; only a process that hangs for a minute fails it, not one on a busy node. */
export function livenessProbe(metricsPort: number): V1Probe {
  return { ...healthz(metricsPort), periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6 };
}

/** Until the process has answered once no other probe counts: a cold image may take minutes to its first line. */
export function startupProbe(metricsPort: number): V1Probe {
  return { ...healthz(metricsPort), periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 300 };
}

function healthz(port: number) {
  return { httpGet: { path: '/healthz', port } };
}
