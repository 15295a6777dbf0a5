// Writes pictures of the demo generator to a folder: `pictures.bin` holds the PNG files one after the other,
// `pictures.jsonl` one line each with offset, length, size, objects and questions.
//   node tools/make-demo-dataset.ts --out DIR [--count N] [--seed N] [--domain train|eval]
import { once } from 'node:events';
import { createWriteStream, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { drawPicture, renderPicture, type Domain } from './demo-pictures.ts';
import { chooseQuestion } from './demo-questions.ts';

const { values } = parseArgs({
  options: {
    out: { type: 'string' },
    count: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '0' },
    domain: { type: 'string', default: 'train' },
  },
});
const { out, domain } = values;
const [count, firstSeed] = [Number(values.count), Number(values.seed)];
if (out === undefined || !isDomain(domain) || !Number.isInteger(count) || !Number.isInteger(firstSeed)) {
  process.stderr.write(
    'usage: make-demo-dataset.ts --out DIR [--count N] [--seed N] [--domain train|eval]\n',
  );
  process.exit(2);
}
mkdirSync(out, { recursive: true });
const pixels = createWriteStream(join(out, 'pictures.bin'));
const lines = createWriteStream(join(out, 'pictures.jsonl'));
let offset = 0;
for (let first = firstSeed; first < firstSeed + count; first += 16) {
  const seeds = Array.from({ length: Math.min(16, firstSeed + count - first) }, (_, index) => first + index);
  const batch = await Promise.all(
    seeds.map(async (seed) => {
      const picture = drawPicture(seed, domain);
      return { seed, picture, png: await renderPicture(picture.svg) };
    }),
  );
  for (const { seed, picture, png } of batch) {
    const { width, height, objects, questions } = picture;
    const chosen = chooseQuestion(questions, seed);
    const line = { seed, offset, length: png.length, width, height, objects, questions, chosen };
    lines.write(`${JSON.stringify(line)}\n`);
    if (!pixels.write(png)) await once(pixels, 'drain');
    offset += png.length;
  }
}
lines.end();
pixels.end();
await Promise.all([once(lines, 'finish'), once(pixels, 'finish')]);

function isDomain(name: string): name is Domain {
  return name === 'train' || name === 'eval';
}
