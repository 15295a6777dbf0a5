// From the vision tower to the language model: pixel shuffle, then LayerNorm and a two-layer perceptron.

import type { Tensor } from '../native/index.ts';
import type { ModelConfig } from './config.ts';
import type { Weights } from './loader.ts';
import { rowParallelLinear, type RankContext } from './parallel.ts';

/** The published projector's LayerNorm takes PyTorch's default; no key of config.json changes it. */
const LAYER_NORM_EPS = 1e-5;

/** One rank's part of the projector. V vision width, H language width, M = image tokens. */
export class Projector {
  readonly #context: RankContext;
  readonly #side: number;
  readonly #pixelShuffleVersion: 1 | 2;
  readonly #normWeight: Tensor; // [4V]
  readonly #normBias: Tensor; // [4V]
  readonly #fc1Weight: Tensor; // [H/tp, 4V]
  readonly #fc1Bias: Tensor; // [H/tp]
  readonly #fc2Weight: Tensor; // [H, H/tp]
  readonly #fc2Bias: Tensor; // [H]

  constructor(context: RankContext, config: ModelConfig, weights: Weights) {
    this.#context = context;
    this.#side = config.vision.imageSize / config.vision.patchSize;
    this.#pixelShuffleVersion = config.pixelShuffleVersion;
    this.#normWeight = weights.get('projector.norm.weight');
    this.#normBias = weights.get('projector.norm.bias');
    this.#fc1Weight = weights.get('projector.fc1.weight');
    this.#fc1Bias = weights.get('projector.fc1.bias');
    this.#fc2Weight = weights.get('projector.fc2.weight');
    this.#fc2Bias = weights.get('projector.fc2.bias');
  }

  /** Hidden states [1 + side^2, V] -> image embeddings [M, H] in the arena. */
  project(hidden: Tensor): Tensor {
    const { native, dtype, progress, taps } = this.#context;
    const shuffled = native.pixelShuffle(hidden, this.#side, this.#pixelShuffleVersion); // [M, 4V]
    taps?.('shuffled', shuffled);
    const normed = native.layerNorm(shuffled, this.#normWeight, this.#normBias, LAYER_NORM_EPS); // [M, 4V]
    const inner = native.linear(normed, this.#fc1Weight, this.#fc1Bias, dtype); // [M, H/tp]
    native.gelu(inner);
    const projected = rowParallelLinear(this.#context, inner, this.#fc2Weight, this.#fc2Bias); // [M, H]
    taps?.('projected', projected);
    progress?.();
    return projected;
  }
}
