import { createRequire } from 'node:module';
import { existsSync } from 'node:fs';
import { dirname, join, parse } from 'node:path';
import { CollectiveError, NativeUnavailable } from './errors.ts';
import type { Native } from './index.ts';

const addonPath = join('build', 'native', 'internvl_native.node');

/**
 * The built addon in the nearest folder above this file that has one: sources run from the repository, compiled files from dist/. Another
 * build of it is named by INTERNVL_NATIVE_ADDON.
 */
function findAddon(): string | undefined {
  const named = process.env['INTERNVL_NATIVE_ADDON'];
  if (named) return named;
  for (let folder = import.meta.dirname; folder !== parse(folder).root; folder = dirname(folder)) {
    const candidate = join(folder, addonPath);
    if (existsSync(candidate)) return candidate;
  }
  return undefined;
}

/** About 40 µs of looking out for work: from one operation of a step to the next it is a few, and waking a thread that sleeps costs 20 to 50. */
const SPINS = '4000';

/**
 * Lets idle OpenMP threads sleep soon, unless the environment says otherwise: several ranks may share the cores. Where a process has more
 * threads than cores, they sleep at once. OpenMP reads the process's environment once, when the addon is loaded first. A worker thread's
 * `process.env` is a copy, so the main thread must have called this by then (or have started the worker with SHARE_ENV).
 */
export function setThreadWaitPolicy(): void {
  process.env['OMP_WAIT_POLICY'] ??= 'PASSIVE';
  process.env['GOMP_SPINCOUNT'] ??= SPINS;
}

/** Errors that native code throws by name become the class of that name. */
function translated(error: unknown): unknown {
  if (error instanceof Error && error.name === 'CollectiveError') {
    return new CollectiveError(error.message, { cause: error });
  }
  return error;
}

/** Collectives, and what waits for a device and so for its peers. */
const waiting = [
  'createCollective',
  'connectCollective',
  'closeCollective',
  'allReduce',
  'allGatherColumns',
  'broadcast',
  'readFloat32',
  'readRow',
  'swap',
  'startRead',
  'finishRead',
] as const;

/** The addon's functions; those that wait for peers, the only ones that throw errors by name, are wrapped. */
function withErrorClasses(addon: Native): Native {
  const functions = { ...addon } as Record<string, unknown>;
  for (const name of waiting) {
    const run = addon[name] as (...args: unknown[]) => unknown;
    functions[name] = (...args: unknown[]): unknown => {
      try {
        return run(...args);
      } catch (error) {
        throw translated(error);
      }
    };
  }
  return functions as unknown as Native;
}

let loaded: Native | undefined;

/** Loads the addon once per thread. Throws {@link NativeUnavailable}. */
export function loadAddon(): Native {
  if (loaded) return loaded;
  const path = findAddon();
  if (path === undefined) {
    throw new NativeUnavailable(
      `${addonPath} was not found above ${import.meta.dirname}: run npm run build:native`,
    );
  }
  setThreadWaitPolicy();
  try {
    loaded = withErrorClasses(createRequire(import.meta.url)(path) as Native);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new NativeUnavailable(`cannot load ${path}: ${reason}; run npm run build:native`, { cause: error });
  }
  return loaded;
}
