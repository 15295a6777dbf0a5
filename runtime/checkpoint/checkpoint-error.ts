export type CheckpointErrorCode =
  | 'missing_file'
  | 'invalid_file'
  | 'unreadable_file'
  | 'missing_tensor'
  | 'wrong_shape'
  | 'unsupported_dtype';

/** A checkpoint cannot be used; the message names the file, the tensor and what is wrong with it. */
export class CheckpointError extends Error {
  override readonly name = 'CheckpointError';
  readonly code: CheckpointErrorCode;

  constructor(code: CheckpointErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
