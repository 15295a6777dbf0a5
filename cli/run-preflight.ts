import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseAddress } from '../rpc/address.ts';
import { createLogger } from '../rpc/log.ts';
import { gatherFacts } from '../runtime/preflight/facts.ts';
import type { RankFacts } from '../runtime/preflight/rank-facts.ts';
import { problemsOf, type PreflightReport } from '../runtime/preflight/report.ts';
import { runStandalone, type StandaloneOptions } from '../runtime/preflight/standalone.ts';
import { usageError } from './cli-error.ts';
import { EXIT } from './exit-codes.ts';
import type { PreflightFlags } from './preflight.ts';
import { formatPreflight } from './preflight-table.ts';
import { isTerminal, styler } from './terminal.ts';

// In an image these are JavaScript files at the same places.
const EXTENSION = import.meta.filename.slice(-3);
const MAIN = fileURLToPath(new URL(`./main${EXTENSION}`, import.meta.url));
const GUARD = new URL(`../local/child-guard${EXTENSION}`, import.meta.url).href;

/** Runs one rank, or all of them on this machine, and prints the report; returns the exit code. */
export async function runPreflight(flags: PreflightFlags): Promise<number> {
  const report = flags.local === true ? await allRanks(flags) : await oneRank(flags);
  const problems = problemsOf(report);
  const text =
    flags.json === true
      ? `${JSON.stringify({ ...report, ok: problems.length === 0, problems })}\n`
      : formatPreflight(report, styler(process.stdout), isTerminal(process.stdout));
  process.stdout.write(text);
  return problems.length === 0 ? EXIT.ok : EXIT.failed;
}

function oneRank(flags: PreflightFlags): Promise<PreflightReport> {
  const { rank, worldSize, leader } = flags;
  if (rank === undefined || leader === undefined)
    throw usageError(
      'give --rank and --leader, or --local',
      'internvl preflight --world-size 2 --local tries it on this machine',
    );
  if (rank >= worldSize) throw usageError(`--rank ${rank} is not below --world-size ${worldSize}`);
  parseAddress(leader);
  return runStandalone(optionsOf(flags, rank, leader, gatherFacts()));
}

/** Rank 0 in this process, the others as children that end with it. */
async function allRanks(flags: PreflightFlags): Promise<PreflightReport> {
  if (flags.rank !== undefined || flags.leader !== undefined)
    throw usageError('--local starts all ranks itself: it takes neither --rank nor --leader');
  const children: ChildProcess[] = [];
  const onListening = (address: string): void => {
    for (let rank = 1; rank < flags.worldSize; rank += 1) children.push(startRank(flags, rank, address));
  };
  const facts = gatherFacts(localEnvironment(0));
  try {
    return await runStandalone({ ...optionsOf(flags, 0, '127.0.0.1:0', facts), onListening });
  } finally {
    for (const child of children) child.kill('SIGKILL');
  }
}

function startRank({ worldSize, extent, wait }: PreflightFlags, rank: number, leader: string): ChildProcess {
  const args = { rank, 'world-size': worldSize, leader, extent, wait };
  return spawn(
    process.execPath,
    [
      '--disable-warning=ExperimentalWarning',
      '--import',
      GUARD,
      MAIN,
      'preflight',
      ...Object.entries(args).flatMap(([name, value]) => [`--${name}`, String(value)]),
    ],
    // Its report is this process's too; what goes wrong there is told here. It ends with the pipe of its input.
    { env: localEnvironment(rank).environment, stdio: ['pipe', 'ignore', 'inherit'] },
  );
}

/** Ranks on one machine take one GPU each, as those of a replica do. */
function localEnvironment(rank: number): Parameters<typeof gatherFacts>[0] & object {
  const own = { CUDA_DEVICE_ORDER: 'PCI_BUS_ID', CUDA_VISIBLE_DEVICES: String(rank) };
  return { environment: { ...own, ...process.env } };
}

function optionsOf(flags: PreflightFlags, rank: number, leader: string, facts: RankFacts): StandaloneOptions {
  const { worldSize, host, extent, wait } = flags;
  const logger = createLogger({ level: 'error', format: 'text' });
  return { rank, worldSize, leader, host, extent, waitMs: wait * 1000, facts, logger };
}
