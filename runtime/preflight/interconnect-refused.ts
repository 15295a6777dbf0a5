/** The ranks do not reach each other as was required. Another node may offer what this one does not. */
export class InterconnectRefused extends Error {
  override readonly name = 'InterconnectRefused';
  readonly code = 'interconnect_refused';

  constructor(problems: readonly string[]) {
    super(`the direct interconnect is required and not there: ${problems.join('; ')}`);
  }
}
