import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Ledger, type LoadReport } from './ledger.ts';

function report(lastSubmitSeq: number, credits: number, extra: Partial<LoadReport> = {}): LoadReport {
  return {
    running: 0,
    waiting: 0,
    waitingUncachedTokens: 0,
    kvBlocksUsed: 0,
    kvBlocks: 100,
    lastSubmitSeq,
    credits,
    ...extra,
  };
}

describe('Ledger', () => {
  it('grants nothing before the replica has said what it takes', () => {
    expect(new Ledger().credits).toBe(0);
  });

  it('counts a submission against credits until a report includes it', () => {
    const ledger = new Ledger();
    ledger.report(report(0, 3));
    ledger.reserve(1, 100);
    ledger.reserve(2, 50);
    expect([ledger.credits, ledger.load.unackedTokens]).toEqual([1, 150]);
    expect(ledger.submit(1)).toBe(1);
    expect([ledger.credits, ledger.load.unackedTokens]).toEqual([1, 150]);
    // The report crossed the submission on the wire: it does not include it yet.
    ledger.report(report(0, 3));
    expect([ledger.credits, ledger.accepted(1)]).toEqual([1, false]);
    ledger.report(report(1, 2, { running: 1 }));
    expect([ledger.credits, ledger.accepted(1), ledger.load.unackedTokens]).toEqual([1, true, 50]);
    expect(ledger.load.sequences).toBe(2);
  });

  it('gives a reservation back that was never submitted', () => {
    const ledger = new Ledger();
    ledger.report(report(0, 1));
    ledger.reserve(7, 10);
    expect(ledger.credits).toBe(0);
    ledger.release(7);
    ledger.release(7);
    expect([ledger.credits, ledger.unacked]).toEqual([1, 0]);
  });

  it('gives the credit of a rejected submission back without a report', () => {
    const ledger = new Ledger();
    ledger.report(report(0, 1));
    ledger.reserve(7, 10);
    const seq = ledger.submit(7);
    expect(ledger.credits).toBe(0);
    ledger.settle(seq);
    expect(ledger.credits).toBe(1);
  });

  it('is never negative when the replica lowers its credits', () => {
    const ledger = new Ledger();
    ledger.report(report(0, 2));
    ledger.reserve(1, 1);
    ledger.reserve(2, 1);
    ledger.report(report(0, 0));
    expect(ledger.credits).toBe(0);
  });

  it('refuses a submission without a reservation', () => {
    expect(() => new Ledger().submit(3)).toThrow('without a reservation');
  });

  // The bookkeeping of a replica that takes at most `capacity`, with reports that arrive late: credits are never exceeded, never leak.
  it('neither exceeds nor leaks credits under any order of events', () => {
    const events = fc.array(fc.constantFrom('submit', 'reserve', 'release', 'receive', 'finish', 'deliver'), {
      maxLength: 200,
    });
    fc.assert(
      fc.property(events, fc.integer({ min: 1, max: 8 }), (steps, capacity) => {
        const ledger = new Ledger();
        const reserved: number[] = [];
        const wire: number[] = [];
        const reports: LoadReport[] = [report(0, capacity)];
        let handle = 0;
        let active = 0;
        let seen = 0;
        const say = (): void => void reports.push(report(seen, capacity - active, { running: active }));
        const receive = (): void => {
          const seq = wire.shift();
          if (seq === undefined) return;
          seen = seq;
          active++;
          expect(active).toBeLessThanOrEqual(capacity);
          say();
        };
        const deliver = (): void => {
          const next = reports.shift();
          if (next !== undefined) ledger.report(next);
        };
        for (const step of steps) {
          expect(ledger.credits).toBeGreaterThanOrEqual(0);
          if (step === 'reserve' && ledger.credits > 0) {
            ledger.reserve(++handle, 1);
            reserved.push(handle);
          } else if (step === 'submit' && reserved.length > 0) wire.push(ledger.submit(reserved.shift()!));
          else if (step === 'release' && reserved.length > 0) ledger.release(reserved.shift()!);
          else if (step === 'receive') receive();
          else if (step === 'finish' && active > 0) {
            active--;
            say();
          } else if (step === 'deliver') deliver();
        }
        for (const left of reserved) ledger.release(left);
        while (wire.length > 0) receive();
        while (active > 0) {
          active--;
          say();
        }
        while (reports.length > 0) deliver();
        expect([ledger.credits, ledger.unacked]).toEqual([capacity, 0]);
      }),
      { seed: 42, numRuns: 500 },
    );
  });
});
