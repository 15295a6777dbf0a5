import { Command, Option } from 'commander';
import { parseCount, parseWorldSize } from './option-parsers.ts';

export interface PreflightFlags {
  worldSize: number;
  rank?: number;
  leader?: string;
  local?: true;
  host?: string;
  extent: 'quick' | 'full';
  wait: number;
  json?: true;
}

export function preflightCommand(): Command {
  return new Command('preflight')
    .description(
      'Says how ranks reach each other: which gates between their devices are open, and what their links carry.',
    )
    .requiredOption('--world-size <n>', 'ranks, 2 to 64', parseWorldSize)
    .option('--rank <r>', 'which of them this is, from 0', parseCount)
    .option('--leader <host:port>', 'where rank 0 listens and the others find it')
    .option('--local', 'start all ranks on this machine')
    .option(
      '--host <host>',
      'where the other ranks reach this one (default: the address from which it reaches rank 0)',
    )
    .addOption(
      new Option('--extent <extent>', 'quick: a quarter of a second, up to 1 MiB; full: two, up to 64 MiB')
        .choices(['quick', 'full'])
        .default('full'),
    )
    .option('--wait <seconds>', 'how long ranks may take to come', parseCount, 60)
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Start it once for each rank, where that rank would run: in a pod beside the others, on the same node. Every rank prints the same
and ends with 1 when a gate is shut. docs/interconnect.md tells what each gate means.

Examples:
  internvl preflight --world-size 2 --local
  internvl preflight --world-size 2 --rank 0 --leader 10.0.0.7:50060    # in one pod
  internvl preflight --world-size 2 --rank 1 --leader 10.0.0.7:50060    # in another`,
    )
    .action(async (flags: PreflightFlags) => {
      const { runPreflight } = await import('./run-preflight.ts');
      process.exitCode = await runPreflight(flags);
    });
}
