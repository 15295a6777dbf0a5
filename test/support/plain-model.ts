// The model as plain loops in float64 over the unsplit weights: no cache, no batches, no ranks. What the runtime computes must agree.

import type { ModelConfig } from '../../runtime/model/config.ts';
import type { SourceTensor } from './random-checkpoint.ts';

type Matrix = number[][];

const MEAN = [0.485, 0.456, 0.406];
const STD = [0.229, 0.224, 0.225];

export class PlainModel {
  readonly #config: ModelConfig;
  readonly #tensors: ReadonlyMap<string, SourceTensor>;

  constructor(config: ModelConfig, tensors: ReadonlyMap<string, SourceTensor>) {
    this.#config = config;
    this.#tensors = tensors;
  }

  /** Pixels [size, size, 3] -> image embeddings [imageTokens, language width]. */
  encodeImage(pixels: Uint8Array): Matrix {
    const { vision, pixelShuffleVersion } = this.#config;
    const { imageSize, patchSize, layerNormEps: eps } = vision;
    const side = imageSize / patchSize;
    const position = this.#matrix('vision_model.embeddings.position_embedding', vision.hiddenSize);
    const patches = cutPatches(pixels, imageSize, patchSize);
    const embedded = this.#linear(patches, 'vision_model.embeddings.patch_embedding');
    const first = this.#vector('vision_model.embeddings.class_embedding');
    let x = add([first, ...embedded], position);
    for (let i = 0; i < vision.layersToRun; i++) {
      const name = `vision_model.encoder.layers.${i}.`;
      const h = rms(x, this.#vector(`${name}norm1.weight`), eps);
      const qkv = this.#linear(h, `${name}attn.qkv`);
      let [q, k, v] = [0, 1, 2].map((third) =>
        columns(qkv, third * vision.hiddenSize, vision.hiddenSize),
      ) as [Matrix, Matrix, Matrix];
      if (vision.qkNormalization) {
        q = rms(q, this.#vector(`${name}attn.q_norm.weight`), eps);
        k = rms(k, this.#vector(`${name}attn.k_norm.weight`), eps);
      }
      const a = attention(q, k, v, vision.numHeads, vision.numHeads, vision.headDim, false);
      x = add(x, times(this.#linear(a, `${name}attn.proj`), this.#vector(`${name}ls1`)));
      const inner = this.#linear(rms(x, this.#vector(`${name}norm2.weight`), eps), `${name}mlp.fc1`);
      x = add(x, times(this.#linear(map(inner, gelu), `${name}mlp.fc2`), this.#vector(`${name}ls2`)));
    }
    const shuffled = shuffle(x.slice(1), side, pixelShuffleVersion);
    const normed = layerNorm(shuffled, this.#vector('mlp1.0.weight'), this.#vector('mlp1.0.bias'), 1e-5);
    return this.#linear(map(this.#linear(normed, 'mlp1.1'), gelu), 'mlp1.3');
  }

  /** Logits [tokens, vocabSize]; image tokens take the rows of `image` in order. */
  logits(ids: readonly number[], imageTokenId: number, image: Matrix): Matrix {
    const { llm } = this.#config;
    const table = this.#matrix('language_model.model.embed_tokens.weight', llm.hiddenSize);
    let nextRow = 0;
    let x = ids.map((id) => (id === imageTokenId ? image[nextRow++] : table[id]) ?? []);
    for (let i = 0; i < llm.numLayers; i++) {
      const name = `language_model.model.layers.${i}.`;
      const h = rms(x, this.#vector(`${name}input_layernorm.weight`), llm.rmsNormEps);
      const q = rope(this.#linear(h, `${name}self_attn.q_proj`), llm.headDim, llm.ropeTheta);
      const k = rope(this.#linear(h, `${name}self_attn.k_proj`), llm.headDim, llm.ropeTheta);
      const v = this.#linear(h, `${name}self_attn.v_proj`);
      const a = attention(q, k, v, llm.numHeads, llm.numKvHeads, llm.headDim, true);
      x = add(x, this.#linear(a, `${name}self_attn.o_proj`));
      const h2 = rms(x, this.#vector(`${name}post_attention_layernorm.weight`), llm.rmsNormEps);
      const gate = map(this.#linear(h2, `${name}mlp.gate_proj`), (value) => value / (1 + Math.exp(-value)));
      const up = this.#linear(h2, `${name}mlp.up_proj`);
      x = add(
        x,
        this.#linear(
          gate.map((row, t) => row.map((value, c) => value * (up[t]?.[c] ?? NaN))),
          `${name}mlp.down_proj`,
        ),
      );
    }
    const h = rms(x, this.#vector('language_model.model.norm.weight'), llm.rmsNormEps);
    return llm.tieWordEmbeddings ? multiply(h, table) : this.#linear(h, 'language_model.lm_head');
  }

  #vector(name: string): number[] {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new RangeError(`no tensor ${name}`);
    return [...tensor.data];
  }

  #matrix(name: string, width: number): Matrix {
    const flat = this.#vector(name);
    return Array.from({ length: flat.length / width }, (_, row) =>
      flat.slice(row * width, (row + 1) * width),
    );
  }

  /** x [T, K] -> [T, N], with the bias if there is one. */
  #linear(x: Matrix, name: string): Matrix {
    const y = multiply(x, this.#matrix(`${name}.weight`, x[0]?.length ?? 0));
    return this.#tensors.has(`${name}.bias`) ? y.map((row) => sum(row, this.#vector(`${name}.bias`))) : y;
  }
}

/** x [T, K] times weight [N, K] transposed. */
function multiply(x: Matrix, weight: Matrix): Matrix {
  return x.map((row) => weight.map((features) => dot(row, features)));
}

function dot(a: readonly number[], b: readonly number[]): number {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += (a[i] as number) * (b[i] as number);
  return total;
}

function sum(a: readonly number[], b: readonly number[]): number[] {
  return a.map((value, i) => value + (b[i] as number));
}

function add(x: Matrix, y: Matrix): Matrix {
  return x.map((row, t) => sum(row, y[t] ?? []));
}

function times(x: Matrix, scale: readonly number[]): Matrix {
  return x.map((row) => row.map((value, i) => value * (scale[i] as number)));
}

function map(x: Matrix, f: (value: number) => number): Matrix {
  return x.map((row) => row.map(f));
}

function columns(x: Matrix, start: number, count: number): Matrix {
  return x.map((row) => row.slice(start, start + count));
}

function rms(x: Matrix, weight: readonly number[], eps: number): Matrix {
  return x.map((row) => {
    const scale = 1 / Math.sqrt(dot(row, row) / row.length + eps);
    return row.map((value, i) => value * scale * (weight[i] as number));
  });
}

function layerNorm(x: Matrix, weight: readonly number[], bias: readonly number[], eps: number): Matrix {
  return x.map((row) => {
    const mean = row.reduce((total, value) => total + value, 0) / row.length;
    const centred = row.map((value) => value - mean);
    const scale = 1 / Math.sqrt(dot(centred, centred) / row.length + eps);
    return centred.map((value, i) => value * scale * (weight[i] as number) + (bias[i] as number));
  });
}

function attention(
  q: Matrix,
  k: Matrix,
  v: Matrix,
  heads: number,
  kvHeads: number,
  headDim: number,
  causal: boolean,
): Matrix {
  return q.map((row, t) => {
    const length = causal ? t + 1 : k.length;
    return Array.from({ length: heads }, (_, head) => {
      const kvStart = Math.floor(head / (heads / kvHeads)) * headDim;
      const query = row.slice(head * headDim, (head + 1) * headDim);
      const keys = columns(k.slice(0, length), kvStart, headDim);
      const scores = keys.map((key) => dot(query, key) / Math.sqrt(headDim));
      const top = Math.max(...scores);
      const weights = scores.map((score) => Math.exp(score - top));
      const total = weights.reduce((a, b) => a + b, 0);
      return Array.from(
        { length: headDim },
        (_, d) => weights.reduce((acc, weight, s) => acc + weight * (v[s]?.[kvStart + d] ?? NaN), 0) / total,
      );
    }).flat();
  });
}

/** Rotates the halves of each head of row t by t. */
function rope(x: Matrix, headDim: number, theta: number): Matrix {
  const half = headDim / 2;
  return x.map((row, t) =>
    row.map((value, i) => {
      const d = i % headDim;
      const angle = t * theta ** ((-2 * (d % half)) / headDim);
      const other = d < half ? -(row[i + half] as number) : (row[i - half] as number);
      return value * Math.cos(angle) + other * Math.sin(angle);
    }),
  );
}

function cutPatches(pixels: Uint8Array, size: number, patch: number): Matrix {
  const side = size / patch;
  return Array.from({ length: side * side }, (_, p) => {
    const values: number[] = [];
    for (let channel = 0; channel < 3; channel++)
      for (let y = 0; y < patch; y++)
        for (let x = 0; x < patch; x++) {
          const at = (Math.floor(p / side) * patch + y) * size + (p % side) * patch + x;
          const value = (pixels[3 * at + channel] as number) / 255;
          values.push((value - (MEAN[channel] as number)) / (STD[channel] as number));
        }
    return values;
  });
}

function shuffle(grid: Matrix, side: number, version: 1 | 2): Matrix {
  const half = side / 2;
  return Array.from({ length: half * half }, (_, t) => {
    const [slow, fast] = [Math.floor(t / half), t % half];
    const [a, b] = version === 1 ? [fast, slow] : [slow, fast];
    return [0, 1].flatMap((di) => [0, 1].flatMap((dj) => grid[(2 * a + di) * side + 2 * b + dj] ?? []));
  });
}

function gelu(value: number): number {
  return 0.5 * value * (1 + erf(value / Math.SQRT2));
}

/** By its Maclaurin series: exact to rounding in the range where it is not 1. */
function erf(x: number): number {
  if (Math.abs(x) > 5) return Math.sign(x);
  let term = x;
  let total = x;
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(total); n++) {
    term *= (-x * x) / n;
    total += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * total;
}
