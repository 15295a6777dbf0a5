import { describe, expect, it } from 'vitest';
import { ChatSession, parseChatInput } from './chat-session.ts';

describe('parseChatInput', () => {
  it.each([
    ['What is it?', { kind: 'question', text: 'What is it?' }],
    ['  What?  ', { kind: 'question', text: 'What?' }],
    ['//etc is what?', { kind: 'question', text: '/etc is what?' }],
    ['', { kind: 'nothing' }],
    ['/reset', { kind: 'reset' }],
    ['/stats ', { kind: 'stats' }],
    ['/help', { kind: 'help' }],
    ['/quit', { kind: 'quit' }],
    ['/image my picture.png', { kind: 'image', path: 'my picture.png' }],
    ['/image', { kind: 'mistake', problem: '/image needs a file: /image FILE' }],
    ['/quit now', { kind: 'mistake', problem: '/quit takes nothing after it' }],
    ['/frob', { kind: 'mistake', problem: 'there is no command /frob; /help lists them' }],
  ])('%j', (line, input) => expect(parseChatInput(line)).toEqual(input));
});

describe('ChatSession', () => {
  it('sends the whole conversation with each question', () => {
    const session = new ChatSession('Be brief.');
    session.keep('a', 'b');
    expect(session.ask('c').map(({ role, content }) => `${role}: ${content}`)).toEqual([
      'system: Be brief.',
      'user: a',
      'assistant: b',
      'user: c',
    ]);
  });

  it('forgets a question that got no word of an answer, so that roles keep taking turns', () => {
    const session = new ChatSession(undefined);
    session.keep('a', '');
    expect(session.ask('b')).toEqual([{ role: 'user', content: 'b' }]);
  });

  it('forgets the conversation but not the picture on reset', () => {
    const session = new ChatSession(undefined);
    session.picture = Uint8Array.of(1);
    session.keep('a', 'b');
    session.reset();
    expect(session.ask('c')).toHaveLength(1);
    session.picture = Uint8Array.of(2);
    expect(session.pictures).toEqual([Uint8Array.of(2)]);
  });

  it('adds up the figures', () => {
    const session = new ChatSession(undefined);
    expect(session.stats()).toBe('no answer yet');
    const usage = { promptTokens: 300, imageTokens: 256, cachedTokens: 0, completionTokens: 11 };
    const timings = { queueMs: 0, timeToFirstTokenMs: 500, totalMs: 1500 };
    const rest = { text: '', tokenIds: [], promptTokenIds: [], logprobs: [] };
    session.count({ ...rest, finishReason: 'stop', usage, timings });
    session.count({ ...rest, finishReason: 'length', usage, timings });
    expect(session.stats()).toBe(
      'last: 300 prompt tokens (256 of pictures, 0 cached), 11 answered, ended by length\n' +
        '      first token after 0.50 s, all after 1.50 s, 10.0 tokens/s\n' +
        'all:  2 answers, 22 tokens in 3.00 s',
    );
  });
});
