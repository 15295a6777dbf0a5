// What one load came to. Latencies belong to the requests that were meant to be sent in the window, and run from that time: a client that
// is late, or a server that makes it wait, cannot hide it. Throughput is what arrived in the window, of any request.
import { Distribution, type Percentiles } from './distribution.ts';
import { isGood, type Limits, type Times } from './goodput.ts';

/** Milliseconds of one clock. */
export interface Window {
  readonly from: number;
  readonly to: number;
}

export interface Usage {
  readonly promptTokens: number;
  readonly imageTokens: number;
  readonly cachedTokens: number;
}

/** How a request ended; `code` is a gRPC status name, or UNFINISHED for an answer that broke off. */
export interface Ending {
  readonly code: string;
  readonly usage: Usage | undefined;
}

export interface Measured {
  /** Requests meant for the window; `answered` of them completely. */
  readonly requests: number;
  readonly answered: number;
  readonly errors: Readonly<Record<string, number>>;
  readonly requestsPerSecond: number;
  readonly tokensPerSecond: number;
  readonly goodput: { readonly requestsPerSecond: number; readonly share: number } | null;
  /** Milliseconds. `itl` has one value for each piece after the first; `tpot` one for each answer. */
  readonly ttft: Percentiles | null;
  readonly itl: Percentiles | null;
  readonly tpot: Percentiles | null;
  readonly e2e: Percentiles | null;
  /** How late the client sent. */
  readonly lag: Percentiles | null;
  /** Means of the answered requests. */
  readonly usage: Usage;
}

/** One request under way. */
export interface Observed {
  /** A piece of the answer with this many tokens has come. */
  piece(now: number, tokens: number): void;
  ended(now: number, ending: Ending): void;
}

/** Adds up what the requests of one load tell. */
export class Measurement {
  readonly #window: Window;
  readonly #limits: Limits | undefined;
  readonly #times = {
    ttft: new Distribution(),
    itl: new Distribution(),
    tpot: new Distribution(),
    e2e: new Distribution(),
    lag: new Distribution(),
  };
  readonly #errors = new Map<string, number>();
  readonly #usage = { promptTokens: 0, imageTokens: 0, cachedTokens: 0 };
  #requests = 0;
  #answered = 0;
  #good = 0;
  #tokensInWindow = 0;
  #answersInWindow = 0;

  constructor(window: Window, limits: Limits | undefined) {
    this.#window = window;
    this.#limits = limits;
  }

  /** A request was sent at `now` that was meant for `intended`. */
  sent(intended: number, now: number): Observed {
    const counts = this.#within(intended);
    if (counts) {
      this.#requests++;
      this.#times.lag.record(now - intended);
    }
    let first: number | undefined;
    let last = 0;
    let longest: number | undefined;
    let total = 0;
    return {
      piece: (at, tokens) => {
        if (this.#within(at)) this.#tokensInWindow += tokens;
        if (first === undefined) first = at;
        else {
          const pause = at - last;
          longest = Math.max(longest ?? 0, pause);
          if (counts) this.#times.itl.record(pause);
        }
        last = at;
        total += tokens;
      },
      ended: (at, { code, usage }) => {
        if (code === 'OK' && this.#within(at)) this.#answersInWindow++;
        if (!counts) return;
        if (code !== 'OK' || first === undefined) {
          const name = code === 'OK' ? 'EMPTY' : code;
          this.#errors.set(name, (this.#errors.get(name) ?? 0) + 1);
          return;
        }
        const tpot = total > 1 ? (last - first) / (total - 1) : undefined;
        this.#answer({ ttft: first - intended, itl: longest, tpot, e2e: at - intended }, usage);
      },
    };
  }

  result(): Measured {
    const seconds = (this.#window.to - this.#window.from) / 1000;
    const mean = (sum: number) => (this.#answered === 0 ? 0 : sum / this.#answered);
    const { ttft, itl, tpot, e2e, lag } = this.#times;
    return {
      requests: this.#requests,
      answered: this.#answered,
      errors: Object.fromEntries([...this.#errors].toSorted(([a], [b]) => (a < b ? -1 : 1))),
      requestsPerSecond: this.#answersInWindow / seconds,
      tokensPerSecond: this.#tokensInWindow / seconds,
      goodput:
        this.#limits === undefined
          ? null
          : {
              requestsPerSecond: this.#good / seconds,
              share: this.#requests === 0 ? 0 : this.#good / this.#requests,
            },
      ttft: ttft.percentiles(),
      itl: itl.percentiles(),
      tpot: tpot.percentiles(),
      e2e: e2e.percentiles(),
      lag: lag.percentiles(),
      usage: {
        promptTokens: mean(this.#usage.promptTokens),
        imageTokens: mean(this.#usage.imageTokens),
        cachedTokens: mean(this.#usage.cachedTokens),
      },
    };
  }

  #answer(times: Times, usage: Usage | undefined): void {
    this.#answered++;
    for (const name of ['ttft', 'tpot', 'e2e'] as const) {
      const value = times[name];
      if (value !== undefined) this.#times[name].record(value);
    }
    if (this.#limits !== undefined && isGood(times, this.#limits)) this.#good++;
    this.#usage.promptTokens += usage?.promptTokens ?? 0;
    this.#usage.imageTokens += usage?.imageTokens ?? 0;
    this.#usage.cachedTokens += usage?.cachedTokens ?? 0;
  }

  #within(at: number): boolean {
    return at >= this.#window.from && at < this.#window.to;
  }
}
