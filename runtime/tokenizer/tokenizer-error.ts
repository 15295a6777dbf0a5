/** The tokenizer's files cannot be used; the message names the file and what is wrong or unsupported in it. */
export class TokenizerError extends Error {
  override readonly name = 'TokenizerError';
  readonly code = 'invalid_tokenizer';

  constructor(file: string, problem: string, options?: ErrorOptions) {
    super(`${file}: ${problem}`, options);
  }
}
