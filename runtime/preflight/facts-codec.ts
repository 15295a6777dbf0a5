// A rank's facts on the wire. What comes from another process is cut to bounds, whoever sent it.

import type { PreflightFacts } from '../../gen/proto/internvl/shard/v1/shard.ts';
import { inCudaOrder, SETTINGS } from './rank-facts.ts';
import type { RankFacts } from './rank-facts.ts';

const MOST_CHARACTERS = 256;
const MOST_ENTRIES = 64;

/** The facts as the wire carries them. */
export function toWireFacts(facts: RankFacts): PreflightFacts {
  return bounded(facts);
}

/** The facts of a rank; undefined where it sent none. */
export function fromWireFacts(wire: PreflightFacts | undefined): RankFacts | undefined {
  return wire === undefined ? undefined : bounded(wire);
}

function bounded(facts: RankFacts): PreflightFacts {
  const settings = SETTINGS.flatMap((name) => {
    const value = facts.settings[name];
    return value === undefined ? [] : [[name, cut(value)] as const];
  });
  return {
    hostName: cut(facts.hostName),
    bootId: cut(facts.bootId),
    networkNamespace: cut(facts.networkNamespace),
    pidNamespace: cut(facts.pidNamespace),
    shmDevice: cut(facts.shmDevice),
    shmBytes: facts.shmBytes,
    tmpDirectory: cut(facts.tmpDirectory),
    settings: Object.fromEntries(settings),
    gpus: inCudaOrder(facts.gpus.slice(0, MOST_ENTRIES)).map(({ minor, busId, uuid }) => ({
      minor,
      busId: cut(busId),
      uuid: cut(uuid),
    })),
    driverVersion: cut(facts.driverVersion),
    imexChannels: facts.imexChannels.slice(0, MOST_ENTRIES),
  };
}

function cut(text: string): string {
  return text.slice(0, MOST_CHARACTERS);
}
