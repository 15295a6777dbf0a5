// Reads this rank's facts from its machine. What cannot be read is left empty: the gates say what that means.

import {
  accessSync,
  constants,
  readFileSync,
  readdirSync,
  readlinkSync,
  statSync,
  statfsSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { inCudaOrder, SETTINGS } from './rank-facts.ts';
import type { Gpu, RankFacts } from './rank-facts.ts';

export interface FactSources {
  /** Where /dev, /proc and /tmp are. */
  readonly root: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly hostName: string;
}

const OF_THIS_PROCESS: FactSources = { root: '/', environment: process.env, hostName: hostname() };

/** Gathers the facts, of this process unless said otherwise; never throws. */
export function gatherFacts(sources: Partial<FactSources> = {}): RankFacts {
  const { root, environment, hostName } = { ...OF_THIS_PROCESS, ...sources };
  const at = (path: string): string => join(root, path);
  const shm = tryTo(() => statSync(at('dev/shm')));
  const tmp = tryTo(() => statSync(at('tmp')));
  const shmSpace = tryTo(() => statfsSync(at('dev/shm')));
  const set = SETTINGS.flatMap((name) => {
    const value = environment[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return {
    hostName,
    bootId: text(at('proc/sys/kernel/random/boot_id')),
    networkNamespace: tryTo(() => readlinkSync(at('proc/self/ns/net'))) ?? '',
    pidNamespace: tryTo(() => readlinkSync(at('proc/self/ns/pid'))) ?? '',
    shmDevice: shm === undefined ? '' : deviceNumber(shm.dev),
    shmBytes: shmSpace === undefined ? 0 : shmSpace.blocks * shmSpace.bsize,
    tmpDirectory: tmp === undefined ? '' : `${deviceNumber(tmp.dev)}/${tmp.ino}`,
    settings: Object.fromEntries(set),
    gpus: gpus(root),
    driverVersion: driverVersionOf(text(at('proc/driver/nvidia/version'))),
    imexChannels: numbered(at('dev/nvidia-caps-imex-channels'), /^channel(\d+)$/),
  };
}

/** Of the text of /proc/driver/nvidia/version; empty when it does not say. */
export function driverVersionOf(version: string): string {
  return /Kernel Module(?: for \S+)?\s+(\d[\d.]*)/.exec(version)?.[1] ?? '';
}

function gpus(root: string): Gpu[] {
  const nodes = numbered(join(root, 'dev'), /^nvidia(\d+)$/).filter((minor) =>
    mayOpen(join(root, `dev/nvidia${minor}`)),
  );
  const described = new Map(
    descriptions(join(root, 'proc/driver/nvidia/gpus')).map((gpu) => [gpu.minor, gpu]),
  );
  return inCudaOrder(nodes.map((minor) => described.get(minor) ?? { minor, busId: '', uuid: '' }));
}

/** What the driver tells of the GPUs; it may tell of more than this container was granted. */
function descriptions(folder: string): Gpu[] {
  const buses = tryTo(() => readdirSync(folder)) ?? [];
  return buses.flatMap((busId) => {
    const information = text(join(folder, busId, 'information'));
    const minor = /^Device Minor:\s*(\d+)/m.exec(information)?.[1];
    if (minor === undefined) return [];
    return [{ minor: Number(minor), busId, uuid: /^GPU UUID:\s*(\S+)/m.exec(information)?.[1] ?? '' }];
  });
}

function numbered(folder: string, pattern: RegExp): number[] {
  const names = tryTo(() => readdirSync(folder)) ?? [];
  return names
    .flatMap((name) => {
      const number = pattern.exec(name)?.[1];
      return number === undefined ? [] : [Number(number)];
    })
    .toSorted((a, b) => a - b);
}

/** By its permissions. It is not opened: that would start a GPU that sleeps. */
function mayOpen(path: string): boolean {
  return (
    tryTo(() => {
      accessSync(path, constants.R_OK | constants.W_OK);
      return true;
    }) ?? false
  );
}

function text(path: string): string {
  return (tryTo(() => readFileSync(path, 'utf8')) ?? '').trim();
}

/** major:minor, as the kernel puts them together. */
function deviceNumber(dev: number): string {
  const number = BigInt(dev);
  const major = ((number >> 8n) & 0xfffn) | ((number >> 32n) & ~0xfffn);
  const minor = (number & 0xffn) | ((number >> 12n) & ~0xffn & 0xffffffffn);
  return `${major}:${minor}`;
}

function tryTo<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
