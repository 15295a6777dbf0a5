// Measuring as a machine with fewer instructions would: the native operations are held to an instruction set when they are loaded.

/** Best first; `scalar` leaves what every x86-64 has. */
export const ISA_LIMITS = ['avx512_bf16', 'avx512', 'avx2', 'scalar'] as const;
export type IsaLimit = (typeof ISA_LIMITS)[number];

/** Holds the operations of this process and of those that it starts; nothing must have loaded them yet. undefined: all that the machine has. */
export function holdTo(limit: IsaLimit | undefined): void {
  if (limit === undefined) delete process.env['INTERNVL_MAX_CPU_ISA'];
  else process.env['INTERNVL_MAX_CPU_ISA'] = limit;
}

/** The command that measured, for its page. */
export function commandOf(script: string, limit: IsaLimit | undefined): string {
  return limit === undefined ? `npm run ${script}` : `npm run ${script} -- --isa ${limit}`;
}
