import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import type { RankAnswer, RankCall } from './rank-process.ts';

class Rank {
  readonly process: ChildProcess;
  readonly #answers: RankAnswer[] = [];
  readonly #waiting: { resolve: (answer: RankAnswer) => void; reject: (error: Error) => void }[] = [];

  constructor() {
    this.process = fork(`${import.meta.dirname}/rank-process.ts`, { execArgv: [] });
    this.process.on('message', (answer: RankAnswer) => {
      const next = this.#waiting.shift();
      if (next) next.resolve(answer);
      else this.#answers.push(answer);
    });
    this.process.on('exit', (code, signal) => {
      for (const { reject } of this.#waiting.splice(0)) reject(new Error(`rank exited: ${code ?? signal}`));
    });
  }

  next(): Promise<RankAnswer> {
    const answer = this.#answers.shift();
    if (answer) return Promise.resolve(answer);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  call(request: RankCall): Promise<RankAnswer> {
    this.process.send(request);
    return this.next();
  }

  async result(request: RankCall): Promise<unknown> {
    const answer = await this.call(request);
    if ('error' in answer) throw new Error(`${answer.error.name}: ${answer.error.message}`);
    return answer.result;
  }
}

let ranks: Rank[] = [];

async function startGroup(worldSize: number, timeoutMs: number): Promise<Rank[]> {
  ranks = Array.from({ length: worldSize }, () => new Rank());
  await Promise.all(ranks.map((rank) => rank.next()));
  const prepared = (await Promise.all(
    ranks.map((rank, r) => rank.result({ call: 'create', rank: r, worldSize, timeoutMs })),
  )) as number[][][];
  await Promise.all(
    ranks.map((rank, r) => rank.result({ call: 'connect', addresses: prepared.map((bytes) => bytes[r]!) })),
  );
  return ranks;
}

afterEach(async () => {
  for (const rank of ranks) {
    if (rank.process.exitCode !== null || rank.process.signalCode !== null) continue;
    const exited = once(rank.process, 'exit');
    rank.process.kill('SIGKILL');
    await exited;
  }
  ranks = [];
});

/** Small integers, different on each rank, so that sums are exact in both dtypes. */
function values(rank: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => ((i * 7 + rank * 3) % 11) - 5);
}

describe.each([2, 3, 4])('a group of %i processes', (worldSize) => {
  it('sums, gathers and broadcasts', async () => {
    const group = await startGroup(worldSize, 20_000);
    for (const dtype of ['float32', 'bfloat16'] as const) {
      for (const count of [1, 6, 600, 300_000]) {
        const rows = count === 1 ? 1 : 2;
        const sums = await Promise.all(
          group.map((rank, r) =>
            rank.result({ call: 'allReduce', dtype, rows, values: values(r, count), times: 1 }),
          ),
        );
        const expected = Array.from({ length: count }, (_, i) =>
          group.reduce((total, _rank, r) => total + (((i * 7 + r * 3) % 11) - 5), 0),
        );
        for (const sum of sums) expect(sum).toEqual(expected);
      }
    }
    // Each further reduction multiplies the sum by the number of ranks.
    const repeated = await Promise.all(
      group.map((rank, r) =>
        rank.result({ call: 'allReduce', dtype: 'float32', rows: 1, values: values(r, 9), times: 5 }),
      ),
    );
    const once = Array.from({ length: 9 }, (_, i) =>
      group.reduce((total, _rank, r) => total + values(r, 9)[i]!, 0),
    );
    for (const sum of repeated) expect(sum).toEqual(once.map((value) => value * worldSize ** 4));
    const gathered = await Promise.all(
      group.map((rank, r) =>
        rank.result({ call: 'allGather', rows: 2, values: [r, r + 10, r + 20, r + 30] }),
      ),
    );
    const row = (offset: number) => group.flatMap((_rank, r) => [r + offset, r + offset + 10]);
    for (const result of gathered) {
      expect(result).toEqual({ shape: [2, 2 * worldSize], values: [...row(0), ...row(20)] });
    }
    for (const integers of [true, false]) {
      for (let root = 0; root < worldSize; root++) {
        const received = await Promise.all(
          group.map((rank, r) =>
            rank.result({ call: 'broadcast', values: [r + 1, 7, r + 200], root, integers }),
          ),
        );
        for (const bytes of received) expect(bytes).toEqual([root + 1, 7, root + 200]);
      }
    }
    // Ranks that are not of the pair only count along, and go on together afterwards.
    for (const [first, second] of [
      [0, 1],
      [1, 0],
      [0, worldSize - 1],
    ] as const) {
      const received = await Promise.all(
        group.map((rank, r) => rank.result({ call: 'swap', values: [r + 1, 9], first, second })),
      );
      const expected = group.map((_rank, r) =>
        r === first ? [second + 1, 9] : r === second ? [first + 1, 9] : [0, 0],
      );
      expect(received).toEqual(expected);
    }
    await Promise.all(group.map((rank) => rank.result({ call: 'close' })));
  });

  it('throws CollectiveError on every rank when one is killed, and forms a new group afterwards', async () => {
    // The timeout is far above the test's own: only the lost connection can end the waiting.
    const group = await startGroup(worldSize, 600_000);
    const request: RankCall = { call: 'allReduce', dtype: 'float32', rows: 1, values: [1, 2, 3], times: 1 };
    const waiting = group.slice(1).map((rank) => rank.call(request));
    group[0]!.process.kill('SIGKILL');
    for (const answer of await Promise.all(waiting)) {
      expect(answer).toMatchObject({ error: { name: 'CollectiveError', code: 'collective_failed' } });
      expect(answer).toMatchObject({
        error: { message: expect.stringMatching(/^allReduce on rank \d of \d: ./) },
      });
    }
    const survivor = group[1]!;
    expect(await survivor.call(request)).toMatchObject({
      error: { name: 'CollectiveError', message: expect.stringContaining('the group is lost') },
    });
    await survivor.result({ call: 'close' });
    // Without a group a collective does nothing.
    expect(await survivor.result(request)).toEqual([1, 2, 3]);
    await survivor.result({ call: 'create', rank: 0, worldSize: 2, timeoutMs: 1000 });
  });
});

it('throws CollectiveError when a peer does not answer within the timeout', async () => {
  const group = await startGroup(2, 500);
  const request: RankCall = { call: 'allReduce', dtype: 'bfloat16', rows: 1, values: [1, 2, 3], times: 1 };
  group[1]!.process.kill('SIGSTOP');
  expect(await group[0]!.call(request)).toMatchObject({ error: { name: 'CollectiveError' } });
  group[1]!.process.kill('SIGCONT');
  expect(await group[1]!.call(request)).toMatchObject({ error: { name: 'CollectiveError' } });
});

it('throws CollectiveError when a peer never connects', async () => {
  ranks = [new Rank()];
  const [rank] = ranks;
  await rank!.next();
  const prepared = (await rank!.result({
    call: 'create',
    rank: 0,
    worldSize: 2,
    timeoutMs: 300,
  })) as number[][];
  // Its own address: nobody else listens there for rank 0.
  expect(await rank!.call({ call: 'connect', addresses: [[], prepared[1]!] })).toMatchObject({
    error: { name: 'CollectiveError' },
  });
});

it('throws CollectiveError when ranks are not at the same exchange', async () => {
  const group = await startGroup(2, 20_000);
  const [three, two] = await Promise.all(
    group.map((rank, r) =>
      rank.call({ call: 'allReduce', dtype: 'float32', rows: 1, values: values(r, 3 - r), times: 1 }),
    ),
  );
  const message =
    /rank \d is at exchange 1 with \d+ bytes, this rank at exchange 1 with \d+|has closed|reset by peer/;
  for (const answer of [three, two])
    expect(answer).toMatchObject({
      error: { name: 'CollectiveError', message: expect.stringMatching(message) },
    });
});

it('turns strangers away and connects the group all the same', async () => {
  ranks = [new Rank(), new Rank()];
  await Promise.all(ranks.map((rank) => rank.next()));
  const prepared = (await Promise.all(
    ranks.map((rank, r) => rank.result({ call: 'create', rank: r, worldSize: 2, timeoutMs: 20_000 })),
  )) as number[][][];
  const address = Buffer.from(prepared[0]![1]!);
  const port = address.readUInt16BE(18); // of the socket address behind 16 bytes of secret
  const greeting = Buffer.alloc(20);
  const strangers = [greeting, Buffer.concat([address.subarray(0, 16), Buffer.of(7, 0, 0, 0)]), Buffer.of(1)];
  const sockets = strangers.map((bytes) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes));
    return socket;
  });
  await Promise.all(sockets.map((socket) => once(socket, 'connect')));
  const turnedAway = sockets.slice(0, 2).map((socket) => once(socket.resume(), 'close'));
  await Promise.all(
    ranks.map((rank, r) => rank.result({ call: 'connect', addresses: prepared.map((bytes) => bytes[r]!) })),
  );
  const sums = await Promise.all(
    ranks.map((rank) =>
      rank.result({ call: 'allReduce', dtype: 'float32', rows: 1, values: [1, 2], times: 1 }),
    ),
  );
  expect(sums).toEqual([
    [2, 4],
    [2, 4],
  ]);
  await Promise.all(turnedAway);
  for (const socket of sockets) socket.destroy();
});

it('names the rank when an address is malformed', async () => {
  ranks = [new Rank()];
  const [rank] = ranks;
  await rank!.next();
  await rank!.result({ call: 'create', rank: 0, worldSize: 2, timeoutMs: 300 });
  expect(await rank!.call({ call: 'connect', addresses: [[], [1, 2, 3]] })).toMatchObject({
    error: { name: 'RangeError', message: expect.stringContaining('the address of rank 1') },
  });
});

it('exits cleanly with an open group', async () => {
  const [first, second] = await startGroup(2, 5_000);
  const exited = once(first!.process, 'exit');
  first!.process.disconnect();
  expect(await exited).toEqual([0, null]);
  expect(
    await second!.call({ call: 'allReduce', dtype: 'float32', rows: 1, values: [1], times: 1 }),
  ).toMatchObject({
    error: { name: 'CollectiveError' },
  });
});
