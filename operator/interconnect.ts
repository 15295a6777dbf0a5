// What is known of the path between the devices of a group, before anybody has measured it. docs/interconnect.md has the reasons.
import type { InternVLDeployment } from '../gen/crd/internvl-deployment.ts';

/** The condition InterconnectVerified, and whether rank pods must not be made because of it. */
export interface InterconnectState {
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: 'NotApplicable' | 'RanksIsolatedByDevicePlugin' | 'NotMeasured';
  readonly message: string;
  readonly blocksPods: boolean;
}

/** Decides from the spec alone. */
export function interconnectState(deployment: InternVLDeployment): InterconnectState {
  const { device, tensorParallel } = deployment.spec;
  const { size, topology, interconnect } = tensorParallel;
  if (device === undefined)
    return notApplicable('ranks compute on CPUs and exchange partial results over the network');
  if (size === 1) return notApplicable('a replica of one rank has nobody to exchange with');

  if (device.resourceName !== undefined && topology === 'PodPerRank') {
    const blocksPods = interconnect === 'Required';
    return {
      status: 'False',
      reason: 'RanksIsolatedByDevicePlugin',
      message:
        `the device plugin grants each of the ${size} rank pods only its own ${device.resourceName}, so they exchange data over the network instead of the ` +
        'direct interconnect; use spec.device.deviceClassName (one claim shared by all ranks) or spec.tensorParallel.topology SinglePod' +
        (blocksPods ? '; no rank pod is made, since spec.tensorParallel.interconnect is Required' : ''),
      blocksPods,
    };
  }
  const message =
    device.resourceName === undefined
      ? `all ${size} ranks are granted the devices of one ${device.deviceClassName} claim; which path they take is not measured`
      : `all ${size} ranks are containers of one pod, each granted one ${device.resourceName}; which path they take is not measured`;
  return { status: 'Unknown', reason: 'NotMeasured', message, blocksPods: false };
}

function notApplicable(message: string): InterconnectState {
  return { status: 'True', reason: 'NotApplicable', message, blocksPods: false };
}
