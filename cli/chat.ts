import { Command } from 'commander';
import type { SamplingFlags } from './conversation.ts';
import { addSamplingFlags } from './generate.ts';

export interface ChatFlags extends SamplingFlags {
  server: string;
  image?: string;
  system?: string;
}

export function chatCommand(): Command {
  const command = new Command('chat')
    .description('Talks with a served model; reads questions line by line.')
    .option('--server <host:port>', 'the server to ask', '127.0.0.1:50051')
    .option('--image <file>', 'a picture to talk about')
    .option('--system <text>', 'system message');
  return addSamplingFlags(command)
    .addHelpText(
      'after',
      `
In the chat: /image FILE, /reset, /stats, /help, /quit. Ctrl-C cancels the answer under way; twice, it leaves.

Examples:
  internvl chat --image examples/pictures/shapes.png
  printf 'What is this?\\nWhat colour is it?\\n' | internvl chat --image examples/pictures/shapes.png`,
    )
    .action(async (flags: ChatFlags) => {
      const { runChat } = await import('./run-chat.ts');
      process.exitCode = await runChat(flags);
    });
}
