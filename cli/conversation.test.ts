import { describe, expect, it } from 'vitest';
import { Role } from '../gen/proto/internvl/v1/inference.ts';
import { CliError } from './cli-error.ts';
import { parseTurns, toMessages, toSampling } from './conversation.ts';
import { turnsOf } from './generate.ts';

describe('parseTurns', () => {
  it('reads a conversation', () => {
    const text = '[{"role":"system","content":"s"},{"role":"user","content":""}]';
    expect(parseTurns(text, 'f')).toEqual([
      { role: 'system', content: 's' },
      { role: 'user', content: '' },
    ]);
  });

  it.each([
    ['{', /f is not JSON/],
    ['{}', /must hold a list/],
    ['[{"role":"bot","content":"x"}]', /message 0: role is "bot"; it must be system, user or assistant/],
    ['[{"role":"user","content":"x"},{"role":"user"}]', /message 1: content must be a string/],
    ['[{"role":"user","content":"x","name":"y"}]', /message 0: unknown field name/],
    ['[null]', /message 0: role/],
  ])('refuses %s', (text, message) => {
    expect(() => parseTurns(text, 'f')).toThrow(CliError);
    expect(() => parseTurns(text, 'f')).toThrow(message);
  });
});

describe('toMessages', () => {
  it('puts all pictures before the text of the first user message, in order', () => {
    const turns = [
      { role: 'system', content: 's' },
      { role: 'user', content: 'a' },
      { role: 'assistant', content: 'b' },
      { role: 'user', content: 'c' },
    ] as const;
    const messages = toMessages(turns, [Uint8Array.of(1), Uint8Array.of(2)]);
    expect(messages.map(({ role }) => role)).toEqual([Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.USER]);
    expect(messages.map(({ parts }) => parts.map(({ part }) => part?.$case))).toEqual([
      ['text'],
      ['image', 'image', 'text'],
      ['text'],
      ['text'],
    ]);
    expect(messages[1]?.parts[1]?.part).toEqual({
      $case: 'image',
      value: { source: { $case: 'data', value: Buffer.of(2) } },
    });
  });
});

describe('toSampling', () => {
  it('tells 0 from absent', () => {
    expect(toSampling({ temperature: 0 })).toMatchObject({
      temperature: 0,
      topK: undefined,
      ignoreEos: false,
    });
  });
});

describe('turnsOf', () => {
  const file = [{ role: 'user', content: 'from the file' }] as const;

  it.each([
    ['a prompt', { prompt: 'p' }, [], ['p']],
    ['a system message before the prompt', { prompt: 'p', system: 's' }, [], ['s', 'p']],
    ['a file', { messages: 'f' }, file, ['from the file']],
    ['a system message before the file', { messages: 'f', system: 's' }, file, ['s', 'from the file']],
    ['an empty prompt, which is for the server to refuse', { prompt: '' }, [], ['']],
  ])('takes %s', (_, flags, turns, contents) => {
    expect(turnsOf(flags, turns).map(({ content }) => content)).toEqual(contents);
  });

  it.each([
    [{}, [], /give --prompt or --messages/],
    [{ prompt: 'p', messages: 'f' }, file, /not both/],
    [{ messages: 'f', system: 's' }, [{ role: 'system', content: 'x' }] as const, /leave --system out/],
  ])('refuses %o', (flags, turns, message) => expect(() => turnsOf(flags, turns)).toThrow(message));
});
