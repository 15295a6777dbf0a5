/** A collective failed: a peer died, closed its connection or did not answer in time. The group is lost. */
export class CollectiveError extends Error {
  override readonly name = 'CollectiveError';
  readonly code = 'collective_failed';
}

/** The native addon is not built, or this machine cannot load it. */
export class NativeUnavailable extends Error {
  override readonly name = 'NativeUnavailable';
  readonly code = 'native_unavailable';
}
