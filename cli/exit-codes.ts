/** What the process ends with; also printed by --help. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  unavailable: 3,
  portInUse: 4,
  interrupted: 130,
} as const;

export const EXIT_HELP = `
Exit codes:
  0    done
  1    the operation or the request failed
  2    wrong usage, manifest or input file
  3    the server cannot be reached
  4    a port is in use
  130  interrupted`;
