import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { describeExamples, EXAMPLES } from './demo-examples.ts';
import { drawPicture, renderPicture } from './demo-pictures.ts';

const folder = resolve(dirname(fileURLToPath(import.meta.url)), '..', 'examples', 'pictures');

describe('examples/pictures', () => {
  it('holds the listed pictures and their README', () => {
    expect(readdirSync(folder).toSorted()).toEqual(
      ['README.md', ...EXAMPLES.map(({ file }) => file)].toSorted(),
    );
    expect(readFileSync(join(folder, 'README.md'), 'utf8')).toBe(describeExamples());
  });

  // Pixels, not bytes: another release of the PNG encoder may compress otherwise.
  it.each(EXAMPLES)('has $file as the generator draws it', async ({ file, seed }) => {
    const pixels = (png: Buffer) => sharp(png).raw().toBuffer();
    const drawn = await pixels(await renderPicture(drawPicture(seed).svg));
    expect((await pixels(readFileSync(join(folder, file)))).equals(drawn)).toBe(true);
  });
});
