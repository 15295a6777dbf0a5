// InternViT: patch embedding, then pre-norm layers with layer scale. Queries and keys are normalised over the full width before the split
// into heads, so ranks exchange sums of squares. There is no norm after the last layer.

import type { Tensor } from '../native/index.ts';
import type { VisionConfig } from './config.ts';
import type { Weights } from './loader.ts';
import { rowParallelLinear, type RankContext } from './parallel.ts';

const IMAGENET_MEAN = [0.485, 0.456, 0.406];
const IMAGENET_STD = [0.229, 0.224, 0.225];

interface VisionLayer {
  readonly norm1: Tensor; // [H]
  readonly qkv: Tensor; // [3W, H]
  readonly qNorm: Tensor | undefined; // [W]
  readonly kNorm: Tensor | undefined; // [W]
  readonly projWeight: Tensor; // [H, W]
  readonly projBias: Tensor; // [H]
  readonly ls1: Tensor; // [H]
  readonly norm2: Tensor; // [H]
  readonly fc1Weight: Tensor; // [I/tp, H]
  readonly fc1Bias: Tensor; // [I/tp]
  readonly fc2Weight: Tensor; // [H, I/tp]
  readonly fc2Bias: Tensor; // [H]
  readonly ls2: Tensor; // [H]
}

/** One rank's part of the vision tower. H hidden width, W = this rank's heads (padded) * headDim, I intermediate width, N = patches + 1 rows. */
export class VisionTower {
  readonly #context: RankContext;
  readonly #config: VisionConfig;
  readonly #localHeads: number;
  readonly #patchWeight: Tensor; // [H, 3 * patch * patch]
  readonly #patchBias: Tensor; // [H]
  readonly #classEmbedding: Tensor; // [H]
  readonly #positionEmbedding: Tensor; // [N, H]
  readonly #layers: readonly VisionLayer[];

  constructor(context: RankContext, config: VisionConfig, localHeads: number, weights: Weights) {
    this.#context = context;
    this.#config = config;
    this.#localHeads = localHeads;
    this.#patchWeight = weights.get('vision.patchEmbedding.weight');
    this.#patchBias = weights.get('vision.patchEmbedding.bias');
    this.#classEmbedding = weights.get('vision.classEmbedding');
    this.#positionEmbedding = weights.get('vision.positionEmbedding');
    this.#layers = Array.from({ length: config.layersToRun }, (_, i) => visionLayer(config, weights, i));
  }

  /** uint8 RGB pixels [size, size, 3] -> hidden states [N, H], row 0 the class token's. The result lies in the arena. */
  encode(pixels: Uint8Array): Tensor {
    const { native, dtype, progress, taps } = this.#context;
    const { imageSize, patchSize } = this.#config;
    const patches = native.patchify(pixels, imageSize, patchSize, IMAGENET_MEAN, IMAGENET_STD, dtype); // [N - 1, 3 * patch * patch]
    const embedded = native.linear(patches, this.#patchWeight, this.#patchBias, dtype); // [N - 1, H]
    const x = native.visionEmbed(embedded, this.#classEmbedding, this.#positionEmbedding); // [N, H]
    taps?.('vit_embed', x);
    const [first] = this.#layers;
    if (first === undefined) return x;
    const h = native.rmsNorm(x, first.norm1, this.#config.layerNormEps); // [N, H] x as the next product takes it, from here on
    for (const [i, layer] of this.#layers.entries()) {
      const mark = native.mark();
      this.#attention(x, h, layer);
      this.#mlp(x, h, layer, this.#layers[i + 1]?.norm1);
      native.release(mark);
      taps?.(`vit_layer_${i}`, x);
      progress?.();
    }
    return x;
  }

  /** x += ls1 * proj(attention(h)), x and h [N, H]; h is norm2(x) then */
  #attention(x: Tensor, h: Tensor, layer: VisionLayer): void {
    const { native, dtype } = this.#context;
    const { hiddenSize, headDim, layerNormEps } = this.#config;
    const length = (this.#config.imageSize / this.#config.patchSize) ** 2 + 1;
    const qkv = native.linear(h, layer.qkv, null, dtype); // [N, 3W]
    if (layer.qNorm !== undefined && layer.kNorm !== undefined) {
      const sums = native.qkSumSquares(qkv); // [N, 2] over this rank's heads; padded heads add zero
      native.allReduce(sums); // [N, 2] over the full width
      native.qkNorm(qkv, layer.qNorm, layer.kNorm, sums, hiddenSize, layerNormEps);
    }
    const a = native.visionAttention(qkv, length, this.#localHeads, headDim, 1 / Math.sqrt(headDim)); // [N, W]
    const y = rowParallelLinear(this.#context, a, layer.projWeight, layer.projBias); // [N, H]
    native.addRmsNorm(x, y, layer.ls1, layer.norm2, layerNormEps, h);
  }

  /** x += ls2 * fc2(gelu(fc1(h))), x and h [N, H]; h is x normalised by `norm` [H] then, of the layer that follows if there is one */
  #mlp(x: Tensor, h: Tensor, layer: VisionLayer, norm: Tensor | undefined): void {
    const { native, dtype } = this.#context;
    const inner = native.linear(h, layer.fc1Weight, layer.fc1Bias, dtype); // [N, I/tp]
    native.gelu(inner);
    const y = rowParallelLinear(this.#context, inner, layer.fc2Weight, layer.fc2Bias); // [N, H]
    if (norm === undefined) native.addScaled(x, y, layer.ls2);
    else native.addRmsNorm(x, y, layer.ls2, norm, this.#config.layerNormEps, h);
  }
}

function visionLayer(config: VisionConfig, weights: Weights, index: number): VisionLayer {
  const get = (name: string) => weights.get(`vision.layers.${index}.${name}`);
  return {
    norm1: get('norm1'),
    qkv: get('qkv'),
    qNorm: config.qkNormalization ? get('qNorm') : undefined,
    kNorm: config.qkNormalization ? get('kNorm') : undefined,
    projWeight: get('proj.weight'),
    projBias: get('proj.bias'),
    ls1: get('ls1'),
    norm2: get('norm2'),
    fc1Weight: get('fc1.weight'),
    fc1Bias: get('fc1.bias'),
    fc2Weight: get('fc2.weight'),
    fc2Bias: get('fc2.bias'),
    ls2: get('ls2'),
  };
}
