/** The tensor-parallel group is lost: a rank died, hangs or disagrees. Names the rank and the cause. */
export class GroupLost extends Error {
  override readonly name = 'GroupLost';
  readonly code = 'group_lost';
  readonly rank: number;

  constructor(rank: number, cause: string, options?: ErrorOptions) {
    super(`rank ${rank}: ${cause}`, options);
    this.rank = rank;
  }
}

/** A rank was started for another group: with another model, size or type. Starting again the same way cannot help. */
export class GroupMismatch extends Error {
  override readonly name = 'GroupMismatch';
  readonly code = 'group_mismatch';
  readonly rank: number;

  constructor(rank: number, message: string, options?: ErrorOptions) {
    super(`rank ${rank} does not fit the group: ${message}`, options);
    this.rank = rank;
  }
}
