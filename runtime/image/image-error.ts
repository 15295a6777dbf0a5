export type ImageErrorCode =
  'unsupported_type' | 'corrupt' | 'too_many_pixels' | 'too_large' | 'overloaded' | 'worker_failed';

/** A picture cannot be used; the message names its type, size or the limit it breaks. */
export class ImageError extends Error {
  override readonly name = 'ImageError';
  readonly code: ImageErrorCode;

  constructor(code: ImageErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
