import { expect, it } from 'vitest';
import { StartupPhases } from './startup.ts';

it('divides the time since the process began among the phases', () => {
  let now = 40;
  const phases = new StartupPhases(() => now);
  phases.end('process');
  now = 100.4;
  phases.end('open');
  now = 350;
  phases.end('join');
  now = 400;
  phases.end('join');
  expect(phases.milliseconds).toEqual({ process: 40, open: 60, join: 300 });
});
