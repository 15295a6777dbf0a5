import type { V1Service } from '@kubernetes/client-node';
import { COMPONENTS, PORTS } from '../api.ts';
import { ranksServiceName } from '../names.ts';
import { childMetadata, componentLabels, type Owner } from './labels.ts';

/** The headless Service that gives rank pods stable host names, from before they are ready: ranks meet while they load. */
export function ranksService(owner: Owner): V1Service {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: childMetadata(owner, ranksServiceName(owner.metadata.name), COMPONENTS.runtime),
    spec: {
      clusterIP: 'None',
      publishNotReadyAddresses: true,
      selector: componentLabels(owner, COMPONENTS.runtime),
      ports: [{ name: 'grpc', port: PORTS.grpc, protocol: 'TCP' }],
    },
  };
}
