// What the model is, read from the published nested config.json. Keys that are absent take the defaults of the published configuration
// classes (LlamaConfig, InternVisionConfig), except select_layer, whose class default (-4) was never what the checkpoints were trained with.

/** The vision tower. Sizes are in features, pixels or patches as named. */
export interface VisionConfig {
  readonly hiddenSize: number;
  readonly numLayers: number;
  /** Leading layers that the selected hidden state needs: 0..numLayers. */
  readonly layersToRun: number;
  readonly numHeads: number;
  readonly headDim: number;
  readonly intermediateSize: number;
  readonly patchSize: number;
  /** Side of the square input in pixels; position embedding rows = (imageSize / patchSize)^2 + 1. */
  readonly imageSize: number;
  readonly layerNormEps: number;
  readonly qkNormalization: boolean;
  readonly qkvBias: boolean;
  readonly normType: 'rms_norm';
}

/** The language model. */
export interface LlmConfig {
  readonly hiddenSize: number;
  readonly numLayers: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly intermediateSize: number;
  readonly vocabSize: number;
  readonly rmsNormEps: number;
  readonly ropeTheta: number;
  readonly maxPositionEmbeddings: number;
  /** The output head is the embedding table; there is no lm_head.weight. */
  readonly tieWordEmbeddings: boolean;
  readonly attentionBias: boolean;
  readonly bosTokenId: number;
  readonly eosTokenIds: readonly number[];
}

/** A model of the InternVL-Chat family: frozen plain data. */
export interface ModelConfig {
  readonly vision: VisionConfig;
  readonly llm: LlmConfig;
  /** Index into the hidden states (embedding output first), negative from the end. */
  readonly selectLayer: number;
  readonly downsampleRatio: number;
  readonly pixelShuffleVersion: 1 | 2;
  /** Tokens that one picture takes in the prompt. */
  readonly imageTokens: number;
  readonly template: string;
  readonly systemMessage: string;
  /** The type the weights were published in. */
  readonly dtype: 'bfloat16' | 'float16' | 'float32';
}

/** config.json asks for something that this runtime does not compute; names the key, its value and what is supported. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly code = 'invalid_config';
  readonly key: string;

  constructor(key: string, problem: string) {
    super(`config.json: ${key} ${problem}`);
    this.key = key;
  }
}

/** The system message that the model was trained with. */
export const DEFAULT_SYSTEM_MESSAGE = 'Answer the questions.';

type Json = Readonly<Record<string, unknown>>;

/** Reads the published config.json (and generation_config.json, whose end-of-sequence ids win); throws ConfigError. */
export function parseModelConfig(config: unknown, generationConfig?: unknown): ModelConfig {
  const root = new Section(asObject(config, 'the file'), '');
  const visionSection = root.section('vision_config');
  const llmSection = root.section('llm_config');
  const generation =
    generationConfig === undefined ? {} : asObject(generationConfig, 'generation_config.json');

  const selectLayer = root.integer('select_layer', -1);
  const downsampleRatio = root.number('downsample_ratio', 0.5);
  if (downsampleRatio !== 0.5) root.refuse('downsample_ratio', 'is supported as 0.5 alone');
  const vision = parseVision(visionSection, root, selectLayer);
  const llm = parseLlm(llmSection, generation);

  const grid = vision.imageSize / vision.patchSize;
  return Object.freeze({
    vision: Object.freeze(vision),
    llm: Object.freeze(llm),
    selectLayer,
    downsampleRatio,
    pixelShuffleVersion: root.oneOf('ps_version', ['v1', 'v2'], 'v1') === 'v1' ? 1 : 2,
    imageTokens: (grid / 2) ** 2,
    template: root.string('template', 'Hermes-2'),
    systemMessage: root.string('system_message', DEFAULT_SYSTEM_MESSAGE),
    dtype: parseDtype(root, llmSection),
  });
}

function parseVision(section: Section, root: Section, selectLayer: number): VisionConfig {
  const hiddenSize = section.positive('hidden_size', 3200);
  const numLayers = section.positive('num_hidden_layers', 48);
  const numHeads = section.positive('num_attention_heads', 25);
  const patchSize = section.positive('patch_size', 14);
  // A checkpoint trained at another resolution than its vision tower says so here; its position embedding was resized along.
  const forcedSize = root.has('force_image_size') ? root.positive('force_image_size', 0) : undefined;
  const imageSize = forcedSize ?? section.positive('image_size', 224);
  if (hiddenSize % numHeads !== 0)
    section.refuse('num_attention_heads', `must divide vision_config.hidden_size (${hiddenSize})`);
  if (imageSize % (2 * patchSize) !== 0) {
    const where = forcedSize === undefined ? section : root;
    const key = forcedSize === undefined ? 'image_size' : 'force_image_size';
    where.refuse(key, `must be a multiple of twice the patch size (${2 * patchSize})`);
  }
  if (section.integer('num_channels', 3) !== 3) section.refuse('num_channels', 'is supported as 3 alone');
  section.oneOf('hidden_act', ['gelu'], 'gelu');
  section.oneOf('norm_type', ['rms_norm'], 'rms_norm');
  const qkvBias = section.boolean('qkv_bias', false);
  if (qkvBias) section.refuse('qkv_bias', 'is supported as false alone');

  // hidden_states holds the embedding output and then each layer's: numLayers + 1 entries.
  const layersToRun = selectLayer < 0 ? numLayers + 1 + selectLayer : selectLayer;
  if (layersToRun < 0 || layersToRun > numLayers)
    root.refuse(
      'select_layer',
      `must lie in ${-(numLayers + 1)}..${numLayers} for ${numLayers} vision layers`,
    );

  return {
    hiddenSize,
    numLayers,
    layersToRun,
    numHeads,
    headDim: hiddenSize / numHeads,
    intermediateSize: section.positive('intermediate_size', 12800),
    patchSize,
    imageSize,
    layerNormEps: section.epsilon('layer_norm_eps', 1e-6),
    qkNormalization: section.boolean('qk_normalization', true),
    qkvBias,
    normType: 'rms_norm',
  };
}

function parseLlm(section: Section, generation: Json): LlmConfig {
  const architectures = section.raw('architectures');
  if (Array.isArray(architectures) && !architectures.includes('LlamaForCausalLM'))
    section.refuse('architectures', 'must contain LlamaForCausalLM');
  section.oneOf('model_type', ['llama'], 'llama');
  section.oneOf('hidden_act', ['silu'], 'silu');

  const hiddenSize = section.positive('hidden_size', 4096);
  const numHeads = section.positive('num_attention_heads', 32);
  const numKvHeads = section.positive('num_key_value_heads', numHeads);
  if (numHeads % numKvHeads !== 0)
    section.refuse('num_key_value_heads', `must divide llm_config.num_attention_heads (${numHeads})`);
  if (!section.has('head_dim') && hiddenSize % numHeads !== 0)
    section.refuse('num_attention_heads', `must divide llm_config.hidden_size (${hiddenSize})`);
  const headDim = section.positive('head_dim', hiddenSize / numHeads);
  if (headDim % 2 !== 0)
    throw new ConfigError(
      'llm_config.head_dim',
      `is ${headDim}; it must be even, rotary embedding pairs features`,
    );
  const attentionBias = section.boolean('attention_bias', false);
  if (attentionBias) section.refuse('attention_bias', 'is supported as false alone');
  if (section.boolean('mlp_bias', false)) section.refuse('mlp_bias', 'is supported as false alone');

  return {
    hiddenSize,
    numLayers: section.positive('num_hidden_layers', 32),
    numHeads,
    numKvHeads,
    headDim,
    intermediateSize: section.positive('intermediate_size', 11008),
    vocabSize: section.positive('vocab_size', 32000),
    rmsNormEps: section.epsilon('rms_norm_eps', 1e-6),
    ropeTheta: parseRopeTheta(section),
    maxPositionEmbeddings: section.positive('max_position_embeddings', 2048),
    // Read here and never from the top level, whose class default is true.
    tieWordEmbeddings: section.boolean('tie_word_embeddings', false),
    attentionBias,
    bosTokenId: section.integer('bos_token_id', 1),
    eosTokenIds: parseEosTokenIds(section, generation),
  };
}

/** Newer files keep theta in rope_parameters; a scaled rotary embedding is refused. */
function parseRopeTheta(section: Section): number {
  let theta = section.raw('rope_theta');
  let key = 'rope_theta';
  for (const scalingKey of ['rope_scaling', 'rope_parameters']) {
    const scaling = section.raw(scalingKey);
    if (scaling === undefined) continue;
    const fields = asObject(scaling, `llm_config.${scalingKey}`);
    const type = fields['rope_type'] ?? fields['type'];
    if (type !== 'default') section.refuse(scalingKey, 'is supported as null alone (no scaling)');
    if (theta === undefined && fields['rope_theta'] !== undefined) {
      theta = fields['rope_theta'];
      key = `${scalingKey}.rope_theta`;
    }
  }
  if (theta === undefined) return 10000;
  if (typeof theta !== 'number' || !(theta > 0) || !Number.isFinite(theta))
    throw new ConfigError(`llm_config.${key}`, `is ${show(theta)}; it must be a positive number`);
  return theta;
}

function parseEosTokenIds(section: Section, generation: Json): readonly number[] {
  const generated = generation['eos_token_id'] ?? undefined;
  const value = generated ?? section.raw('eos_token_id') ?? 2;
  const ids: unknown[] = Array.isArray(value) ? value : [value];
  if (ids.length === 0 || !ids.every(isTokenId)) {
    const key =
      generated === undefined ? 'llm_config.eos_token_id' : 'eos_token_id of generation_config.json';
    throw new ConfigError(key, `is ${show(value)}; it must be a token id or a list of token ids`);
  }
  return Object.freeze([...new Set(ids)]);
}

function parseDtype(root: Section, llm: Section): ModelConfig['dtype'] {
  const supported = ['bfloat16', 'float16', 'float32'] as const;
  for (const section of [root, llm])
    for (const key of ['torch_dtype', 'dtype'])
      if (section.has(key)) return section.oneOf(key, supported, 'bfloat16');
  return 'bfloat16';
}

/** One object of the file: reads keys by type and names them in full in errors. null counts as absent. */
class Section {
  readonly #values: Json;
  readonly #path: string;

  constructor(values: Json, path: string) {
    this.#values = values;
    this.#path = path;
  }

  raw(key: string): unknown {
    return this.#values[key] ?? undefined;
  }

  has(key: string): boolean {
    return this.raw(key) !== undefined;
  }

  refuse(key: string, supported: string): never {
    throw new ConfigError(this.#path + key, `is ${show(this.raw(key))}; it ${supported}`);
  }

  section(key: string): Section {
    if (!this.has(key))
      throw new ConfigError(this.#path + key, 'is missing; an InternVL-Chat config.json has it');
    return new Section(asObject(this.raw(key), this.#path + key), `${this.#path}${key}.`);
  }

  number(key: string, fallback: number): number {
    const value = this.raw(key);
    if (value === undefined) return fallback;
    if (typeof value !== 'number' || !Number.isFinite(value)) this.refuse(key, 'must be a number');
    return value;
  }

  integer(key: string, fallback: number): number {
    const value = this.number(key, fallback);
    if (!Number.isSafeInteger(value)) this.refuse(key, 'must be a whole number');
    return value;
  }

  positive(key: string, fallback: number): number {
    const value = this.integer(key, fallback);
    if (value < 1 || value > MAX_SIZE) this.refuse(key, `must lie in 1..${MAX_SIZE}`);
    return value;
  }

  epsilon(key: string, fallback: number): number {
    const value = this.number(key, fallback);
    if (!(value > 0 && value < 1)) this.refuse(key, 'must lie between 0 and 1');
    return value;
  }

  boolean(key: string, fallback: boolean): boolean {
    const value = this.raw(key);
    if (value === undefined) return fallback;
    if (typeof value !== 'boolean') this.refuse(key, 'must be true or false');
    return value;
  }

  string(key: string, fallback: string): string {
    const value = this.raw(key);
    if (value === undefined) return fallback;
    if (typeof value !== 'string') this.refuse(key, 'must be a string');
    return value;
  }

  oneOf<Value extends string>(key: string, supported: readonly Value[], fallback: Value): Value {
    const value = this.raw(key);
    if (value === undefined) return fallback;
    const found = supported.find((candidate) => candidate === value);
    if (found === undefined) this.refuse(key, `is supported as ${supported.join(', ')} alone`);
    return found;
  }
}

/** Far above any real size, so that products of two sizes stay exact. */
const MAX_SIZE = 2 ** 26;

function isTokenId(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function asObject(value: unknown, what: string): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new ConfigError(what, `is ${show(value)}; it must be an object`);
  return value as Json;
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
