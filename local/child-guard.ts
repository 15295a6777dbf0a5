// Loaded into every child with --import: the child ends when its parent does, however the parent ended. The parent holds the other end of
// the child's standard input and never writes to it, so its end is the parent's end.
import { isMainThread } from 'node:worker_threads';

if (isMainThread) {
  const parentGone = () => process.kill(process.pid, 'SIGKILL');
  process.stdin.on('end', parentGone).on('error', parentGone).resume();
  // Waiting for the parent alone must not keep the child alive.
  (process.stdin as unknown as { unref?: () => void }).unref?.();
}
