/** Columns lined up for a terminal; between tabs when piped. */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  aligned: boolean,
): string[] {
  const all = [head, ...rows];
  if (!aligned) return all.map((row) => row.join('\t'));
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  return all.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
