// The router's pure parts driven by a seeded clock: queue, batcher, balancer, ledger, breaker and retry against simulated replicas whose
// reports arrive late, that fail, die and come back. Each row is a way in which routers are known to go wrong.

import { status } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import type { Candidate } from './balancer.ts';
import { takeBatch } from './batcher.ts';
import { admissible, Breaker } from './breaker.ts';
import { DEFAULT_RATES } from './cost.ts';
import { Ledger, type LoadReport } from './ledger.ts';
import { HeldPrefixes, PREFIX_BLOCK } from './prefix.ts';
import { RequestQueue } from './queue.ts';
import { fillRates, RateEstimator } from './rates.ts';
import { RecentMap } from './recent.ts';
import { decideRetry, RetryBudget } from './retry.ts';

interface Scenario {
  readonly replicas: readonly {
    readonly capacity: number;
    /** Prompt tokens a millisecond. */
    readonly prefill: number;
    /** Share of requests that fail with INTERNAL. */
    readonly failing?: number;
    /** Dies at, comes back at (ms). */
    readonly down?: readonly [number, number];
  }[];
  readonly requests: number;
  /** Requests a millisecond. */
  readonly rate: number;
  /** Milliseconds that a report or a submission travels. */
  readonly wire: number;
  /** Every prompt begins like this one's: a hit on whichever replica served one before. */
  readonly sharedPrefix?: number;
  /** Each prompt begins with one of `count` texts (or pictures) of this many tokens, and a replica remembers the last `cached` of them. */
  readonly prefixes?: { readonly count: number; readonly tokens: number; readonly cached: number };
  readonly maxWaitMs?: number;
}

interface Sim {
  readonly id: number;
  readonly priorityClass: number;
  readonly bytes: number;
  readonly enqueuedAt: number;
  waitingSince: number;
  readonly workTokens: number;
  readonly decodeMs: number;
  readonly prefix: number;
  /** Milliseconds from arrival until its prompt was computed. */
  firstTokenMs: number;
  readonly avoid: Set<string>;
  failures: number;
  replicasLost: number;
  endings: number;
  how: string;
}

class SimReplica {
  readonly name: string;
  readonly breaker = new Breaker();
  readonly rates = new RateEstimator();
  ledger = new Ledger();
  alive = true;
  generation = 0;
  active = new Map<number, Sim>();
  waitingTokens = 0;
  lastSeq = 0;
  placed = 0;
  mostActive = 0;
  prefixes = 0;
  /** Which prefixes it remembers. */
  cache = new RecentMap<number, true>(0);
  believed = new HeldPrefixes(0);
  hits = 0;
  freeAt = 0;

  constructor(name: string) {
    this.name = name;
  }
}

// mulberry32: small, seeded, good enough to draw scenarios from.
function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** As the router places, or as simpler ones would. */
type Policy = 'router' | 'round robin' | 'least loaded';

function simulate(scenario: Scenario, seed: number, policy: Policy = 'router') {
  const random = seeded(seed);
  const events: { at: number; order: number; run: () => void }[] = [];
  let now = 0;
  let order = 0;
  const later = (ms: number, run: () => void): void => {
    const event = { at: now + ms, order: order++, run };
    const index = events.findLastIndex((other) => other.at <= event.at);
    events.splice(index + 1, 0, event);
  };
  const queue = new RequestQueue<Sim>({
    maxRequests: 1e6,
    maxBytes: 1e9,
    maxWaitMs: scenario.maxWaitMs ?? 1e9,
    agingMs: 1000,
  });
  const budget = new RetryBudget();
  const replicas = scenario.replicas.map((_, index) => new SimReplica(`r${index}`));
  const { prefixes } = scenario;
  for (const replica of replicas) {
    if (prefixes === undefined) continue;
    replica.cache = new RecentMap(prefixes.cached);
    replica.believed = new HeldPrefixes(prefixes.cached * prefixes.tokens);
  }
  const blocksOf = ({ prefix }: Sim): number[] =>
    Array.from({ length: Math.floor((prefixes?.tokens ?? 0) / PREFIX_BLOCK) }, (_, at) => prefix * 1000 + at);
  const requests: Sim[] = [];
  let handles = 0;

  const end = (request: Sim, how: string): void => {
    request.endings++;
    request.how = how;
  };

  const report = (replica: SimReplica, index: number): void => {
    const { capacity } = scenario.replicas[index]!;
    const { generation } = replica;
    const figures: LoadReport = {
      running: replica.active.size,
      waiting: 0,
      waitingUncachedTokens: Math.max(0, replica.waitingTokens),
      kvBlocksUsed: replica.active.size,
      kvBlocks: capacity * 2,
      lastSubmitSeq: replica.lastSeq,
      credits: capacity - replica.active.size,
    };
    later(scenario.wire, () => {
      if (generation !== replica.generation) return;
      replica.ledger.report(figures);
      dispatch();
    });
  };

  const failed = (request: Sim, replica: SimReplica, code: number, lost: boolean): void => {
    request.failures++;
    if (lost) request.replicasLost++;
    request.avoid.add(replica.name);
    const { failures, replicasLost } = request;
    const decision = decideRetry(
      { code, replicaLost: lost },
      { failures, replicasLost, tokensDelivered: false },
      budget,
    );
    if (!decision.retry) {
      end(request, decision.because);
      return;
    }
    request.waitingSince = now;
    queue.pushBack(request);
    dispatch();
  };

  const receive = (request: Sim, replica: SimReplica, index: number, seq: number, handle: number): void => {
    const { prefill, failing = 0, capacity } = scenario.replicas[index]!;
    const { generation } = replica;
    replica.lastSeq = seq;
    replica.active.set(handle, request);
    replica.mostActive = Math.max(replica.mostActive, replica.active.size);
    expect(replica.active.size).toBeLessThanOrEqual(capacity);
    let hit = replica.prefixes > 0 ? (scenario.sharedPrefix ?? 0) : 0;
    if (replica.cache.get(request.prefix) !== undefined) {
      hit += prefixes!.tokens;
      replica.hits++;
    }
    const uncached = Math.max(1, request.workTokens - hit);
    replica.waitingTokens += uncached;
    replica.freeAt = Math.max(replica.freeAt, now) + uncached / prefill;
    const breaks = random() < failing;
    report(replica, index);
    later(replica.freeAt - now, () => {
      if (generation !== replica.generation) return;
      replica.waitingTokens -= uncached;
      if (prefixes !== undefined) replica.cache.set(request.prefix, true);
      request.firstTokenMs = now - request.enqueuedAt;
      replica.rates.prefill(uncached, uncached / prefill / 1000);
      later(breaks ? 0 : request.decodeMs, () => {
        if (generation !== replica.generation) return;
        replica.active.delete(handle);
        replica.prefixes++;
        replica.breaker.record(breaks, now);
        report(replica, index);
        if (breaks) failed(request, replica, status.INTERNAL, false);
        else end(request, 'ok');
      });
    });
  };

  const inFlight = new Map<SimReplica, Map<number, Sim>>(replicas.map((replica) => [replica, new Map()]));
  const dispatch = (): void => {
    const connected = replicas.filter(({ alive }) => alive);
    const servable = admissible(
      connected.map((replica) => ({
        replica,
        ejected: replica.breaker.state !== 'closed',
        failureRatio: replica.breaker.ratio(now),
      })),
    ).map(({ replica }) => replica);
    // Ejection never empties the pool.
    expect(servable.length > 0).toBe(connected.length > 0);
    const rates = fillRates(
      servable.map((replica) => replica.rates),
      DEFAULT_RATES,
    );
    const candidates = servable.map((replica, index): Candidate => {
      expect(replica.ledger.credits).toBeGreaterThanOrEqual(0);
      return {
        name: replica.name,
        credits: replica.ledger.credits,
        maxSequences: scenario.replicas[replicas.indexOf(replica)]!.capacity,
        load: replica.ledger.load,
        rates: rates[index]!,
      };
    });
    const hits = (request: Sim, name: string): number => {
      if (policy !== 'router') return 0;
      const replica = replicas.find((each) => each.name === name)!;
      if (prefixes !== undefined) return replica.believed.hitTokens(blocksOf(request));
      return replica.prefixes > 0 ? (scenario.sharedPrefix ?? 0) : 0;
    };
    const eligible = ({ id }: Sim, name: string): boolean =>
      policy !== 'round robin' || replicas[id % replicas.length]!.name === name;
    for (const { request, replica: name } of takeBatch(queue, candidates, hits, now, random, eligible)) {
      const index = replicas.findIndex((replica) => replica.name === name);
      const replica = replicas[index]!;
      replica.believed.placed(blocksOf(request));
      const handle = ++handles;
      replica.ledger.reserve(handle, request.workTokens);
      const seq = replica.ledger.submit(handle);
      replica.placed++;
      const { generation } = replica;
      inFlight.get(replica)!.set(handle, request);
      later(scenario.wire, () => {
        if (generation !== replica.generation) return;
        inFlight.get(replica)!.delete(handle);
        receive(request, replica, index, seq, handle);
      });
    }
  };

  for (const [index, { down }] of scenario.replicas.entries()) {
    const replica = replicas[index]!;
    report(replica, index);
    if (down === undefined) continue;
    later(down[0], () => {
      const lost = [...replica.active.values(), ...inFlight.get(replica)!.values()];
      replica.alive = false;
      replica.generation++;
      replica.active = new Map();
      inFlight.get(replica)!.clear();
      replica.ledger = new Ledger();
      Object.assign(replica, { waitingTokens: 0, lastSeq: 0, freeAt: 0, prefixes: 0 });
      for (const request of lost) failed(request, replica, status.UNAVAILABLE, true);
    });
    later(down[1], () => {
      replica.alive = true;
      replica.breaker.reset();
      report(replica, index);
    });
  }

  let arrival = 0;
  for (let id = 0; id < scenario.requests; id++) {
    arrival += -Math.log(1 - random()) / scenario.rate;
    const workTokens = 200 + Math.floor(random() * 800);
    const decodeMs = 20 + random() * 200;
    const priorityClass = Math.floor(random() * 3);
    const prefix = prefixes === undefined ? -1 : Math.floor(random() * prefixes.count);
    later(arrival, () => {
      const request: Sim = {
        id,
        priorityClass,
        bytes: 1,
        enqueuedAt: now,
        waitingSince: now,
        workTokens: workTokens + (prefixes?.tokens ?? 0),
        decodeMs,
        prefix,
        firstTokenMs: 0,
        avoid: new Set(),
        failures: 0,
        replicasLost: 0,
        endings: 0,
        how: '',
      };
      requests.push(request);
      budget.earn();
      expect(queue.push(request)).toBe('queued');
      dispatch();
    });
  }
  const tick = (): void => {
    for (const replica of replicas) {
      if (!replica.alive || !replica.breaker.takeProbe(now)) continue;
      const index = replicas.indexOf(replica);
      later(10, () => {
        replica.breaker.probed(random() >= (scenario.replicas[index]!.failing ?? 0), now);
        dispatch();
      });
    }
    for (const request of queue.expired(now)) end(request, 'expired');
    dispatch();
    if (requests.length < scenario.requests || requests.some(({ endings }) => endings === 0))
      later(100, tick);
  };
  later(100, tick);

  // A run that does not come to an end is a leak: of a credit, or of a request.
  for (let handled = 0; events.length > 0; handled++) {
    if (handled > 2_000_000) throw new Error('the simulation does not end');
    const event = events.shift()!;
    now = event.at;
    event.run();
  }
  return { requests, replicas, queue, endedAt: now };
}

const even = (count: number, capacity = 8): Scenario['replicas'] =>
  Array.from({ length: count }, () => ({ capacity, prefill: 20 }));

const SCENARIOS: readonly (readonly [string, Scenario])[] = [
  ['an even load', { replicas: even(4), requests: 400, rate: 0.05, wire: 1 }],
  [
    'a burst: reports are older than what was sent since',
    { replicas: even(4), requests: 400, rate: 5, wire: 30 },
  ],
  [
    'one prefix in every request',
    { replicas: even(4), requests: 400, rate: 0.3, wire: 2, sharedPrefix: 190 },
  ],
  ['nothing cached anywhere', { replicas: even(4), requests: 400, rate: 0.3, wire: 2, sharedPrefix: 0 }],
  [
    'one replica three times as slow',
    { replicas: [...even(3), { capacity: 8, prefill: 7 }], requests: 400, rate: 0.1, wire: 2 },
  ],
  [
    'one replica that fails most requests',
    { replicas: [...even(3), { capacity: 8, prefill: 20, failing: 0.8 }], requests: 400, rate: 0.1, wire: 2 },
  ],
  [
    'every replica fails some',
    { replicas: even(3).map((replica) => ({ ...replica, failing: 0.3 })), requests: 300, rate: 0.1, wire: 2 },
  ],
  [
    'a replica that dies under load and comes back',
    {
      replicas: [...even(2), { capacity: 8, prefill: 20, down: [1500, 3000] }],
      requests: 400,
      rate: 0.1,
      wire: 5,
    },
  ],
  [
    'all replicas die one after the other',
    {
      replicas: even(3).map((replica, index) => ({
        ...replica,
        down: [1000 + 700 * index, 2500 + 700 * index] as const,
      })),
      requests: 300,
      rate: 0.1,
      wire: 5,
    },
  ],
  ['replicas of one credit', { replicas: even(3, 1), requests: 200, rate: 0.1, wire: 3 }],
  [
    'more than can be served, and a longest wait',
    { replicas: even(2, 4), requests: 400, rate: 0.5, wire: 2, maxWaitMs: 2000 },
  ],
];

describe.each(SCENARIOS)('%s', (_, scenario) => {
  it.each([1, 2, 3])('ends every request exactly once, within credits, and leaks none (seed %i)', (seed) => {
    const { requests, replicas, queue } = simulate(scenario, seed);
    expect(requests).toHaveLength(scenario.requests);
    expect(requests.filter(({ endings }) => endings !== 1)).toEqual([]);
    expect([queue.size, queue.bytes]).toEqual([0, 0]);
    for (const [index, replica] of replicas.entries()) {
      expect(replica.active.size).toBe(0);
      expect([replica.ledger.credits, replica.ledger.unacked]).toEqual([
        scenario.replicas[index]!.capacity,
        0,
      ]);
    }
  });
});

describe('the spread of load', () => {
  const shares = (scenario: Scenario, seed = 5): number[] => {
    const { replicas, requests } = simulate(scenario, seed);
    return replicas.map(({ placed }) => placed / requests.length);
  };
  const scenario = (name: string): Scenario => SCENARIOS.find(([key]) => key === name)![1];

  it.each([
    'an even load',
    'a burst: reports are older than what was sent since',
    'one prefix in every request',
    'nothing cached anywhere',
  ])('no herd on one of four equal replicas: %s', (name) => {
    for (const share of shares(scenario(name))) {
      expect(share).toBeGreaterThan(0.15);
      expect(share).toBeLessThan(0.35);
    }
  });

  it('a slow replica gets less, not nothing', () => {
    const [a, b, c, slow] = shares(scenario('one replica three times as slow')) as [
      number,
      number,
      number,
      number,
    ];
    expect(slow).toBeLessThan(Math.min(a, b, c));
    expect(slow).toBeGreaterThan(0.02);
  });

  it('a failing replica costs no request its answer', () => {
    const { requests } = simulate(scenario('one replica that fails most requests'), 5);
    expect(requests.filter(({ how }) => how === 'ok').length / requests.length).toBeGreaterThan(0.99);
  });

  it('a dying replica costs no request its answer', () => {
    const { requests } = simulate(scenario('a replica that dies under load and comes back'), 5);
    expect(requests.every(({ how }) => how === 'ok')).toBe(true);
  });
});

describe('prompts that begin alike', () => {
  const measure = (scenario: Scenario, policy: Policy) => {
    const runs = [1, 2, 3, 4, 5].map((seed) => simulate(scenario, seed, policy));
    const waits = runs.flatMap(({ requests }) => requests.map(({ firstTokenMs }) => firstTokenMs));
    waits.sort((a, b) => a - b);
    const hits = runs.flatMap(({ replicas }) => replicas.map((replica) => replica.hits));
    return {
      hits: hits.reduce((sum, count) => sum + count, 0) / waits.length,
      median: waits[Math.floor(waits.length / 2)]!,
      tail: waits[Math.floor(waits.length * 0.99)]!,
    };
  };
  const shared = (rate: number): Scenario => ({
    replicas: even(4, 16),
    requests: 400,
    rate,
    wire: 2,
    prefixes: { count: 40, tokens: 1024, cached: 15 },
  });

  // Each replica remembers 15 of 40: whoever spreads them blindly finds 15 in 40. Nothing spreads evener than round robin, so while most replicas
  // are idle its tail is hard to beat; under load what need not be computed counts for more.
  it.each([
    ['half', 0.03, 1.1],
    ['nearly full', 0.06, 0.8],
  ])(
    'find their beginnings computed more often than round robin, and no tail grows: %s load',
    (_, rate, tail) => {
      const router = measure(shared(rate), 'router');
      const roundRobin = measure(shared(rate), 'round robin');
      expect(router.hits).toBeGreaterThan(1.5 * roundRobin.hits);
      expect(router.median).toBeLessThan(0.7 * roundRobin.median);
      expect(router.tail).toBeLessThan(tail * roundRobin.tail);
      expect(router.tail).toBeLessThan(measure(shared(rate), 'least loaded').tail);
    },
    30_000,
  );

  it('that all begin alike do not all wait for one replica', () => {
    const one: Scenario = { ...shared(0.06), prefixes: { count: 1, tokens: 1024, cached: 15 } };
    const router = measure(one, 'router');
    expect(router.tail).toBeLessThan(1.1 * measure(one, 'least loaded').tail);
    expect(router.hits).toBeGreaterThan(0.9);
  });

  it('and those that never do are served no slower than by the least loaded replica', () => {
    const unique: Scenario = { ...shared(0.04), prefixes: { count: 1e6, tokens: 1024, cached: 15 } };
    const router = measure(unique, 'router');
    const leastLoaded = measure(unique, 'least loaded');
    expect(router.median).toBeLessThanOrEqual(1.02 * leastLoaded.median);
    expect(router.tail).toBeLessThanOrEqual(1.02 * leastLoaded.tail);
  });
});
