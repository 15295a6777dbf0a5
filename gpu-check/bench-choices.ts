// Tokens chosen where the logits are, of whole batches.
import type { Row } from '../bench/results.ts';
import type { Native } from '../runtime/native/index.ts';
import { Operands } from './operands.ts';
import { seconds } from './timing.ts';

const VOCABULARY = 64_000;
const DRAWS = [
  { name: 'the likeliest', temperature: 0, topK: 0, topP: 1 },
  { name: 'temperature 1', temperature: 1, topK: 0, topP: 1 },
  { name: 'temperature 1, top-k 50, top-p 0.9', temperature: 1, topK: 50, topP: 0.9 },
  { name: 'temperature 1, top-p 0.9', temperature: 1, topK: 0, topP: 0.9 },
];

export function benchChoices(ops: Native): Row[] {
  return [1, 32, 128].flatMap((rows) => {
    const operands = new Operands(ops, rows);
    const logits = operands.tensor('float32', [rows, VOCABULARY], 12);
    const found = DRAWS.map(({ name, ...draw }): Row => {
      const how = operands.draws(rows, draw);
      const once = seconds(ops, () => {
        const mark = ops.mark();
        ops.chooseTokens(logits, VOCABULARY, how);
        ops.release(mark);
      });
      return {
        metric: `tokens chosen: ${name}`,
        shape: `[${rows}, ${VOCABULARY}]`,
        unit: 'µs',
        value: 1e6 * once,
      };
    });
    operands.free();
    return found;
  });
}
