import type { Logger } from '../../rpc/log.ts';
import { failedGates, problemsOf } from './report.ts';
import type { PreflightReport } from './report.ts';

/** A report in the log: one line of figures, and a warning for all that is slower than it could be. */
export function logReport(report: PreflightReport, logger: Logger): void {
  const { backend, path, direct, leftOut, allReduce, pairs, gpus } = report;
  const rounded = (value: number): number => Number(value.toPrecision(3));
  logger.info('preflight', {
    backend,
    path,
    direct,
    leftOut,
    allReduce: allReduce.map(({ bytes, us, busGigabytesPerSecond }) => ({
      bytes,
      us: rounded(us),
      busGBps: rounded(busGigabytesPerSecond),
    })),
    slowestPairGBps: rounded(Math.min(...pairs.map((pair) => pair.gigabytesPerSecond))),
  });
  for (const { gate, found, change } of failedGates(report))
    logger.warn('interconnect gate', { gate, found, change });
  const problems = problemsOf(report);
  if (backend === 'cuda' && !direct) logger.warn('devices are not reached directly', { path, problems });
  if (backend === 'cpu' && gpus > 0)
    logger.warn('ranks compute on CPUs although they are granted GPUs', { gpus, path });
}
