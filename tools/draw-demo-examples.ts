// Draws examples/pictures/: some pictures of the demo generator, and a README with every question about them and its answer.
//   node tools/draw-demo-examples.ts
import { writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { EXAMPLES, describeExamples } from './demo-examples.ts';
import { drawPicture, renderPicture } from './demo-pictures.ts';

const folder = resolve(dirname(fileURLToPath(import.meta.url)), '..', 'examples', 'pictures');
for (const { file, seed } of EXAMPLES) {
  writeFileSync(join(folder, file), await renderPicture(drawPicture(seed).svg));
}
writeFileSync(join(folder, 'README.md'), describeExamples());
