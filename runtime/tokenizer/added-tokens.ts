// The tokens that stand beside the sentencepiece model, and the flags of the published slow LlamaTokenizer, from its JSON files. A
// tokenizer_config.json with added_tokens_decoder is complete by itself; older ones are completed by added_tokens.json and special_tokens_map.json.

import { TokenizerError } from './tokenizer-error.ts';

export interface AddedTokens {
  /** Text -> id, as the published tokenizer splits text at them. */
  readonly ids: ReadonlyMap<string, number>;
  /** Ids of the tokens that have a role (bos, eos, unk, pad, additional): skipping special tokens drops these and no others. */
  readonly specialIds: ReadonlySet<number>;
  readonly bosTokenId: number | undefined;
  readonly eosTokenId: number | undefined;
  /** bos stands before every text. */
  readonly addBosToken: boolean;
}

type Json = Readonly<Record<string, unknown>>;

const ROLES = ['bos_token', 'eos_token', 'unk_token', 'sep_token', 'pad_token', 'cls_token', 'mask_token'];
const CONFIG = 'tokenizer_config.json';

/** Reads the JSON files by name (each may be absent). pieceIds: the sentencepiece vocabulary, whose texts keep their ids; new ones follow pieceCount. */
export function parseAddedTokens(
  files: ReadonlyMap<string, Uint8Array>,
  pieceIds: ReadonlyMap<string, number>,
  pieceCount: number,
): AddedTokens {
  const config = parseJsonFile(files, CONFIG);
  if (config['legacy'] === false)
    throw new TokenizerError(CONFIG, 'has legacy false; the published models use legacy true alone');

  const ids = new Map<string, number>();
  const decoder = config['added_tokens_decoder'];
  const complete = typeof decoder === 'object' && decoder !== null;
  if (complete) {
    for (const [id, token] of Object.entries(decoder))
      addToken(ids, tokenText(token, `added_tokens_decoder.${id}`), Number(id), CONFIG);
  } else {
    const file = 'added_tokens.json';
    for (const [text, id] of Object.entries(parseJsonFile(files, file))) addToken(ids, text, id, file);
  }

  // Later spreads win: what tokenizer_config.json says stands over the map, and both over the class defaults.
  const map = complete ? {} : parseJsonFile(files, 'special_tokens_map.json');
  const settings: Json = { unk_token: '<unk>', bos_token: '<s>', eos_token: '</s>', ...map, ...config };
  let nextId = Math.max(pieceCount, ...[...ids.values()].map((id) => id + 1));
  const idOf = (token: unknown, key: string): number => {
    const text = tokenText(token, key);
    let id = ids.get(text) ?? pieceIds.get(text);
    if (id === undefined) id = nextId++;
    ids.set(text, id);
    return id;
  };
  const specialIds = new Set<number>();
  const roleIds = new Map<string, number>();
  for (const role of ROLES) {
    const token = settings[role] ?? undefined;
    if (token === undefined) continue;
    const id = idOf(token, role);
    roleIds.set(role, id);
    specialIds.add(id);
  }
  const additional = settings['additional_special_tokens'];
  if (Array.isArray(additional))
    for (const token of additional) specialIds.add(idOf(token, 'additional_special_tokens'));

  return {
    ids,
    specialIds,
    bosTokenId: roleIds.get('bos_token'),
    eosTokenId: roleIds.get('eos_token'),
    addBosToken: settings['add_bos_token'] !== false,
  };
}

function addToken(ids: Map<string, number>, text: string, id: unknown, file: string): void {
  if (typeof id !== 'number' || !Number.isSafeInteger(id) || id < 0 || id > 2 ** 30)
    throw new TokenizerError(
      file,
      `token ${JSON.stringify(text)} has the impossible id ${JSON.stringify(id)}`,
    );
  ids.set(text, id);
}

/** A token is written as its text or as an object with its text and flags. */
function tokenText(token: unknown, key: string): string {
  if (typeof token === 'string' && token !== '') return token;
  const { content, ...flags } = (typeof token === 'object' && token !== null ? token : {}) as Json;
  if (typeof content !== 'string' || content === '')
    throw new TokenizerError(CONFIG, `${key} is ${JSON.stringify(token)}, not a token`);
  for (const flag of ['lstrip', 'rstrip', 'single_word'])
    if (flags[flag] === true)
      throw new TokenizerError(
        CONFIG,
        `token ${JSON.stringify(content)} has ${flag}, which is not supported`,
      );
  return content;
}

function parseJsonFile(files: ReadonlyMap<string, Uint8Array>, name: string): Json {
  const bytes = files.get(name);
  if (bytes === undefined) return {};
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new TokenizerError(name, `is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new TokenizerError(name, 'is not a JSON object');
  return value as Json;
}
