import { describe, expect, it } from 'vitest';
import { peerSection, type Comparison, type PeerMachine } from './page.ts';
import { peerRow } from './rows.ts';

const machine: PeerMachine = {
  cpu: 'CPU',
  isa: 'avx2',
  cores: 2,
  threads: 2,
  readBandwidth: 30e9,
  load: [0.2, 2],
};
const row = peerRow({ metric: 'm', shape: 's', unit: 'u', better: 'more', ours: 50, peers: { a: 25 } });
const section = (changes: Partial<Comparison>, load: PeerMachine['load'] = machine.load) =>
  peerSection(
    'Engine, avx2',
    'npm run it',
    { ...machine, load },
    { about: 'About.', rows: [row], missing: [], versions: { a: '1' }, ...changes },
  );

describe('peerSection', () => {
  it('tells the command, the machine and the versions, then the rows', () => {
    const { title, body } = section({});
    expect(title).toBe('Engine, avx2');
    expect(body).toMatch(/^`npm run it` on CPU, avx2, 2 cores, 2 threads, read bandwidth\n30.0 GB\/s/);
    expect(body).toContain('Versions: a 1.');
    expect(body).toContain('About.\n\n| ours');
    expect(body).toContain('| 2.00x |');
    expect(body).not.toContain('Others were at work');
    expect(body).not.toMatch(/^##? /m);
  });

  it('names what was not measured, with the reason', () => {
    expect(section({ missing: [{ peer: 'c', reason: 'no wheel' }] }).body).toMatch(
      /Not measured:\n\n- c: no wheel$/,
    );
    expect(section({}).body).toMatch(/every peer ran\.$/);
  });

  it('says when others were at work', () =>
    expect(section({}, [9, 9]).body).toContain('Others were at work'));
});
