import { rename, rm, writeFile } from 'node:fs/promises';

/** Where a running deployment is reached. */
export interface Endpoints {
  readonly grpc: string;
  readonly metrics: string;
  /** Process ids by name: "router", "<replica>-<rank>". */
  readonly pids: Readonly<Record<string, number>>;
  readonly logs: string;
}

/** Writes the file in one step: who reads it sees all of it or nothing. */
export async function writeReadyFile(path: string, endpoints: Endpoints): Promise<void> {
  const draft = `${path}.${process.pid}.tmp`;
  await writeFile(draft, `${JSON.stringify(endpoints)}\n`);
  await rename(draft, path);
}

export async function removeReadyFile(path: string): Promise<void> {
  await rm(path, { force: true });
}
