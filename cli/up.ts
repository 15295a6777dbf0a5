import { Command } from 'commander';
import { parsePort } from './option-parsers.ts';

export interface UpFlags {
  file: string;
  grpcPort?: number;
  host: string;
  readyFile?: string;
}

export function upCommand(): Command {
  return new Command('up')
    .description('Runs an InternVLDeployment on this machine: its ranks and a router as processes.')
    .requiredOption(
      '-f, --file <file>',
      'the manifest; its model.source must be a directory, file:///path or file:path',
    )
    .option(
      '--grpc-port <port>',
      "the API's port; 0 takes any free one (default: the manifest's router.service.grpcPort, 50051)",
      parsePort,
    )
    .option('--host <host>', 'the address to listen on', '127.0.0.1')
    .option(
      '--ready-file <file>',
      'written once every replica has answered, as JSON: {"grpc", "metrics", "pids", "logs"}; removed at the end',
    )
    .addHelpText(
      'after',
      `
Ctrl-C lets requests under way finish; a second one ends them.

Examples:
  internvl up -f examples/demo.yaml
  internvl up -f examples/demo.yaml --grpc-port 0 --ready-file /tmp/ready.json`,
    )
    .action(async (flags: UpFlags) => {
      const { runUp } = await import('./run-up.ts');
      await runUp(flags);
    });
}
