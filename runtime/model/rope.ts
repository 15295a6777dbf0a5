// Rotary position embedding: the table of cosines and sines.

/**
 * [maxPositions, headDim] row-major: of each position the cosines of its headDim / 2 angles, then their sines. Frequencies and angles are
 * rounded to float32 as the published model computes them; far positions would differ visibly otherwise.
 */
export function rotaryTable(maxPositions: number, headDim: number, theta: number): Float32Array {
  const half = headDim / 2;
  const frequencies = new Float32Array(half);
  for (let i = 0; i < half; i++) {
    const exponent = Math.fround((2 * i) / headDim);
    frequencies[i] = 1 / Math.fround(Math.pow(theta, exponent));
  }
  const table = new Float32Array(maxPositions * headDim);
  for (let position = 0; position < maxPositions; position++)
    for (const [i, frequency] of frequencies.entries()) {
      const angle = Math.fround(position * frequency);
      table[position * headDim + i] = Math.cos(angle);
      table[position * headDim + half + i] = Math.sin(angle);
    }
  return table;
}
