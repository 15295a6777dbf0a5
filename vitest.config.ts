import { defineConfig } from 'vitest/config';

// A shared machine that stands still for seconds must not fail a build: what has real processes is tried a second time there, and the reporter says so.
const retry = process.env['CI'] === 'true' ? 1 : 0;

// `forks`: a native addon that misbehaves in a worker thread would take the whole run down.
export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: 2,
    projects: [
      {
        test: {
          name: 'unit',
          include: [
            '{operator,runtime,router,local,cli,rpc,bench,tools,scripts,examples,gpu-check}/**/*.test.ts',
          ],
          exclude: ['runtime/native/cuda_on_host/**'],
        },
      },
      {
        // The native operations' tests again, with the CUDA backend, whose kernels an emulation runs.
        test: {
          name: 'cuda-on-host',
          include: [
            'runtime/native/*.test.ts',
            'runtime/native/cuda_on_host/tests/*.test.ts',
            'test/integration/cuda-on-host/*.test.ts',
          ],
          exclude: ['runtime/native/{contract,device,load,resize,sampling}.test.ts'],
          setupFiles: ['test/support/cuda-on-host-setup.ts'],
          testTimeout: 60_000,
          retry,
        },
      },
      {
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          exclude: ['test/integration/cuda-on-host/**'],
          testTimeout: 60_000,
          retry,
          hookTimeout: 60_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'control-plane',
          include: ['test/control-plane/**/*.test.ts'],
          exclude: ['test/control-plane/alone/**'],
          globalSetup: ['test/support/control-plane-setup.ts'],
          testTimeout: 120_000,
          retry,
          hookTimeout: 120_000,
          sequence: { groupOrder: 1 },
        },
      },
      {
        // What others would feel: restarts of the API server, operators that act in every namespace, the chart.
        test: {
          name: 'control-plane-alone',
          include: ['test/control-plane/alone/**/*.test.ts'],
          globalSetup: ['test/support/control-plane-setup.ts'],
          testTimeout: 120_000,
          retry,
          hookTimeout: 120_000,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
      {
        // Each file is one story on a cluster of its own.
        test: {
          name: 'cluster',
          include: ['test/e2e/**/*.test.ts'],
          testTimeout: 900_000,
          hookTimeout: 900_000,
          fileParallelism: false,
          sequence: { groupOrder: 3 },
        },
      },
    ],
  },
});
