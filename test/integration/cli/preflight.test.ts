import { describe, expect, it } from 'vitest';
import { freeAddress } from '../runtime/rank-processes.ts';
import { runCli } from './run-cli.ts';

interface Printed {
  readonly worldSize: number;
  readonly ok: boolean;
  readonly pairs: readonly { readonly path: string }[];
  readonly problems: readonly string[];
}

describe('internvl preflight', () => {
  it('starts the ranks itself with --local and prints what it found', async () => {
    const { code, stdout, stderr } = await runCli([
      'preflight',
      '--world-size',
      '2',
      '--local',
      '--extent',
      'quick',
    ]);
    expect(stderr).toBe('');
    expect(stdout).toMatch(/^2 ranks on CPUs, slowest path TCP\n/);
    expect(stdout).toMatch(/\n0 and 1\tTCP\t[\d.]+ GB\/s\t[\d.]+ [um]s\n/);
    expect(stdout).toMatch(/\n14 KiB \(one token\)\t[\d.]+ [um]s\t[\d.]+ GB\/s\n/);
    expect(code).toBe(stdout.includes('SHUT') ? 1 : 0);
  });

  it('prints the same on ranks that were started each by itself', async () => {
    const leader = await freeAddress();
    const rank = (r: number) =>
      runCli([
        'preflight',
        '--world-size',
        '2',
        '--rank',
        String(r),
        '--leader',
        leader,
        '--extent',
        'quick',
        '--json',
      ]);
    const [first, second] = await Promise.all([rank(0), rank(1)]);
    expect(second).toEqual(first);
    const printed = JSON.parse(first.stdout) as Printed;
    expect(printed).toMatchObject({ worldSize: 2, pairs: [{ path: 'TCP' }] });
    expect([printed.ok, first.code]).toEqual([printed.problems.length === 0, printed.ok ? 0 : 1]);
  });

  it('names ranks that are missing', async () => {
    const leader = await freeAddress();
    const flags = ['preflight', '--world-size', '3', '--leader', leader, '--wait', '1'];
    const { code, stderr } = await runCli([...flags, '--rank', '0']);
    expect(code).toBe(1);
    expect(stderr).toContain('ranks 1, 2 did not come within 1 s');
    const late = await runCli([...flags, '--rank', '2']);
    expect(late.code).toBe(1);
    expect(late.stderr).toContain(`rank 0 did not answer at ${leader}`);
  });

  it('refuses a rank of another group', async () => {
    const leader = await freeAddress();
    const flags = ['preflight', '--leader', leader, '--extent', 'quick', '--wait', '30'];
    const first = runCli([...flags, '--world-size', '2', '--rank', '0']);
    const stranger = await runCli([...flags, '--world-size', '3', '--rank', '1']);
    expect(stranger.code).toBe(1);
    expect(stranger.stderr).toContain('world size differs: rank 0 has 2, rank 1 has 3');
    expect((await runCli([...flags, '--world-size', '2', '--rank', '1'])).code).toBe((await first).code);
  });

  it.each([
    ['neither --rank nor --local', ['--world-size', '2'], /give --rank and --leader, or --local/],
    ['both', ['--world-size', '2', '--local', '--rank', '1'], /takes neither/],
    [
      'a rank beyond the others',
      ['--world-size', '2', '--rank', '2', '--leader', 'a:1'],
      /not below --world-size 2/,
    ],
    ['one rank', ['--world-size', '1', '--local'], /from 2 to 64/],
    ['no port', ['--world-size', '2', '--rank', '0', '--leader', 'a'], /not HOST:PORT/],
  ])('refuses %s', async (_, flags, message) => {
    const { code, stderr } = await runCli(['preflight', ...flags]);
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
  });
});
