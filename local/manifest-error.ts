/** A manifest or the model it names cannot be used; each problem names file, line, field, what was found and what is allowed. */
export class ManifestError extends Error {
  override readonly name = 'ManifestError';
  readonly code = 'invalid_manifest';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}
