// `npm run demo` without a terminal, on the smallest checkpoint: its answers mean nothing, but they come.
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const TINY = fileURLToPath(new URL('../../fixtures/checkpoints/tiny', import.meta.url));
const DEMO = fileURLToPath(new URL('../../../scripts/demo.ts', import.meta.url));

function runDemo(manifest: string): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [DEMO, '--manifest', manifest], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, stdout, stderr })));
}

it('asks three questions about a picture and ends', { timeout: 120_000 }, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'internvl-demo-'));
  const manifest = join(directory, 'demo.yaml');
  const value = {
    apiVersion: 'internvl.dev/v1alpha1',
    kind: 'InternVLDeployment',
    metadata: { name: 'demo' },
    spec: { model: { source: `file://${TINY}` }, tensorParallel: { size: 2 } },
  };
  await writeFile(manifest, JSON.stringify(value));
  const { code, stdout, stderr } = await runDemo(manifest);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toContain('shapes.png');
  expect(stdout.match(/first token after \d+ ms/g)).toHaveLength(3);
  await rm(directory, { recursive: true });
});

it('fails when its model cannot be found', { timeout: 60_000 }, async () => {
  const { code, stderr } = await runDemo('/nowhere/demo.yaml');
  expect({ code, stderr }).toEqual({
    code: 2,
    stderr: 'internvl demo: /nowhere/demo.yaml: there is no such file\n',
  });
});
