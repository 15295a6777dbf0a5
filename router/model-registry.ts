// Which models are served, and which replicas belong to each: one, or two while a deployment goes over from one to another.

import type { EngineInfo } from '../gen/proto/internvl/engine/v1/engine.ts';
import { incompatibility, ServedModel, type TokenizerFiles } from './models.ts';

/** How long a model stays after all its replicas went away: they may only be starting again. */
const MODEL_HOLD_MS = 30_000;

interface HeldModel {
  readonly model: ServedModel;
  /** Connected replicas that serve it. */
  readonly holders: Set<string>;
  /** When the last holder went; undefined while there is one. */
  orphanedAt: number | undefined;
}

export interface ModelRegistryOptions {
  /** A tokenizer with 64,000 pieces takes about 25 MiB, so they are few. */
  readonly mostModels: number;
  /** A request that has not ended was tokenized for it. */
  readonly inUse: (model: ServedModel) => boolean;
}

/** Admits replicas to models and models to the router; holds `mostModels` at most. */
export class ModelRegistry {
  readonly #now: () => number;
  readonly #onAdopted: (model: ServedModel) => void;
  readonly #options: ModelRegistryOptions;
  /** Oldest first. */
  #held: HeldModel[] = [];
  #loading: Promise<unknown> | undefined;

  /** `onAdopted` is told of each model that comes to be served. */
  constructor(
    now: () => number,
    onAdopted: (model: ServedModel) => void,
    options: ModelRegistryOptions = { mostModels: 1, inUse: () => false },
  ) {
    this.#now = now;
    this.#onAdopted = onAdopted;
    this.#options = options;
  }

  /** Oldest first. */
  get models(): readonly ServedModel[] {
    return this.#held.map(({ model }) => model);
  }

  /** The newest one. */
  get current(): ServedModel | undefined {
    return this.#held.at(-1)?.model;
  }

  /** The model when the replica serves one of them, otherwise why it cannot be used; rejects when its files cannot be fetched or read. */
  async admit(
    replica: string,
    info: EngineInfo,
    fetchFiles: () => Promise<TokenizerFiles>,
  ): Promise<ServedModel | string> {
    // The first one decides; others wait for it rather than fetch the same files.
    while (this.#loading !== undefined) await this.#loading.catch(() => undefined);
    const held = this.#heldFor(info) ?? (this.hasRoom ? await this.#adopt(info, fetchFiles) : undefined);
    if (held === undefined) return incompatibility(this.current!.info, info)!;
    held.holders.add(replica);
    held.orphanedAt = undefined;
    return held.model;
  }

  /** The replica is no longer connected. */
  release(replica: string): void {
    for (const held of this.#held) {
      if (held.holders.delete(replica) && held.holders.size === 0) held.orphanedAt = this.#now();
    }
  }

  /** Lets go of what nobody serves or needs any more while another model is served; the last model stays, to queue for. */
  prune(): void {
    if (this.#held.length < 2 || this.#held.every(({ holders }) => holders.size === 0)) return;
    this.#held = this.#held.filter(({ holders, model }) => holders.size > 0 || this.#options.inUse(model));
  }

  /** True when no replica has served a model for so long that another may take its place. */
  get orphaned(): boolean {
    return this.#replaceable() !== undefined;
  }

  /** True when a replica of another model would be admitted. */
  get hasRoom(): boolean {
    return this.#held.length < this.#options.mostModels || this.orphaned;
  }

  #heldFor(info: EngineInfo): HeldModel | undefined {
    return this.#held.find(({ model }) => incompatibility(model.info, info) === undefined);
  }

  #replaceable(): HeldModel | undefined {
    return this.#held.find(
      ({ orphanedAt }) => orphanedAt !== undefined && this.#now() - orphanedAt > MODEL_HOLD_MS,
    );
  }

  async #adopt(info: EngineInfo, fetchFiles: () => Promise<TokenizerFiles>): Promise<HeldModel> {
    const loading = fetchFiles().then((files) => new ServedModel(info, files));
    this.#loading = loading;
    let model: ServedModel;
    try {
      model = await loading;
    } finally {
      this.#loading = undefined;
    }
    if (this.#held.length >= this.#options.mostModels) {
      const old = this.#replaceable();
      this.#held = this.#held.filter((held) => held !== old);
    }
    const held: HeldModel = { model, holders: new Set(), orphanedAt: undefined };
    this.#held.push(held);
    this.#onAdopted(model);
    return held;
  }
}

/** The model that new requests are tokenized for: the one with the most ready replicas, of equals the newest; `models` come oldest first. */
export function presentModel<M>(models: readonly M[], ready: (model: M) => number): M | undefined {
  let best: M | undefined;
  for (const model of models) if (best === undefined || ready(model) >= ready(best)) best = model;
  return best;
}
