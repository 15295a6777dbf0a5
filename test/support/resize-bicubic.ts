// Pillow's bicubic resize in plain TypeScript: what the native operation is tested against, and what stands in for it where it is not built.

const PRECISION_BITS = 32 - 8 - 2;

/** uint8 RGB width x height -> outWidth x outHeight, horizontal pass first, uint8 between, as Pillow's BICUBIC. */
export function resizeBicubicReference(
  rgb: Uint8Array,
  width: number,
  height: number,
  outWidth: number,
  outHeight: number,
): Uint8Array {
  const horizontal = outWidth === width ? rgb : resizeRows(rgb, width, height, outWidth);
  if (outHeight === height) return horizontal.slice();
  const turned = transpose(horizontal, outWidth, height);
  return transpose(resizeRows(turned, height, outWidth, outHeight), outHeight, outWidth);
}

/** Each of `rows` rows from width to outWidth pixels. */
function resizeRows(rgb: Uint8Array, width: number, rows: number, outWidth: number): Uint8Array {
  const out = new Uint8Array(outWidth * rows * 3);
  const kernels = coefficients(width, outWidth);
  for (let row = 0; row < rows; row++)
    kernels.forEach(({ start, weights }, x) => {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 1 << (PRECISION_BITS - 1);
        weights.forEach((weight, i) => {
          sum += rgb[(row * width + start + i) * 3 + channel]! * weight;
        });
        out[(row * outWidth + x) * 3 + channel] = Math.min(255, Math.max(0, sum >> PRECISION_BITS));
      }
    });
  return out;
}

/** Per output pixel: the first input pixel and fixed-point weights. Shrinking widens the filter, which is the antialiasing. */
function coefficients(size: number, outSize: number): { start: number; weights: number[] }[] {
  const scale = size / outSize;
  const filterScale = Math.max(scale, 1);
  const support = 2 * filterScale;
  return Array.from({ length: outSize }, (_, x) => {
    const center = (x + 0.5) * scale;
    const start = Math.max(0, Math.trunc(center - support + 0.5));
    const end = Math.min(size, Math.trunc(center + support + 0.5));
    const raw = Array.from({ length: end - start }, (_, i) =>
      cubic((i + start - center + 0.5) * (1 / filterScale)),
    );
    const total = raw.reduce((sum, weight) => sum + weight, 0);
    return {
      start,
      weights: raw.map((weight) => {
        const scaled = weight * (total === 0 ? 1 : 1 / total) * (1 << PRECISION_BITS);
        return Math.trunc(weight < 0 ? scaled - 0.5 : scaled + 0.5);
      }),
    };
  });
}

/** The Keys kernel with a = -0.5. */
function cubic(x: number): number {
  const a = -0.5;
  const t = Math.abs(x);
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  if (t < 2) return (((t - 5) * t + 8) * t - 4) * a;
  return 0;
}

function transpose(rgb: Uint8Array, width: number, height: number): Uint8Array {
  const out = new Uint8Array(rgb.length);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      for (let channel = 0; channel < 3; channel++)
        out[(x * height + y) * 3 + channel] = rgb[(y * width + x) * 3 + channel]!;
  return out;
}
