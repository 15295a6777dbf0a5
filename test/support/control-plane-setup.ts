// vitest's global set-up of the projects `control-plane` and `control-plane-alone`: one control plane for the run, with this clone's CRDs and two fake nodes of 4 GPUs.
// INTERNVL_CONTROL_PLANE names the STATE_DIR of one that runs already (`npm run cluster -- up --control-plane-only`) and is used instead.

import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TestProject } from 'vitest/node';
import { command, CONTROL_PLANE_SCRIPT, controlPlaneAt, programsDirectory } from './control-plane.ts';

const CRDS = fileURLToPath(new URL('../../crds/', import.meta.url));

/** Returns what vitest calls at the end of the run. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const running = process.env['INTERNVL_CONTROL_PLANE'];
  const directory = running ?? (await mkdtemp(join(tmpdir(), 'internvl-control-plane-')));
  const env = { STATE_DIR: directory, OWNER_PID: String(process.pid), CRDS };
  const down = async () => {
    if (running === undefined) await command('bash', [CONTROL_PLANE_SCRIPT, 'down'], { env });
  };
  try {
    if (running === undefined) await command('bash', [CONTROL_PLANE_SCRIPT, 'up'], { env });
    // Whose pods run as soon as they are bound, and are Ready when their gates are True too.
    await command('bash', [CONTROL_PLANE_SCRIPT, 'kwok', '2', '4'], { env });
    // One that runs already may have another clone's, or none.
    const { kubectl } = controlPlaneAt(directory, await programsDirectory());
    for (const args of [
      ['apply', '--server-side', '--force-conflicts', '-f', CRDS],
      ['wait', '--for=condition=Established', '--timeout=60s', '-f', CRDS],
    ]) {
      const { code, stderr } = await kubectl(args);
      if (code !== 0) throw new Error(`kubectl ${args.join(' ')}: ${stderr}`);
    }
  } catch (error) {
    await down();
    throw error;
  }
  project.provide('controlPlaneDirectory', directory);
  return down;
}
