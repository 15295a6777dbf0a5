import { Command } from 'commander';
import { writeFile } from 'node:fs/promises';
import { readInputFile } from './read-input.ts';

interface PreprocessFlags {
  model: string;
  image: string;
  out: string;
  json?: true;
}

export function preprocessCommand(): Command {
  return new Command('preprocess')
    .description(
      'Writes a picture as the model sees it before normalisation: uint8 RGB, height x width x 3, row by row.',
    )
    .requiredOption('--model <dir>', 'checkpoint directory, or one with a config.json alone')
    .requiredOption('--image <file>', 'JPEG, PNG, WebP, GIF, BMP or TIFF file')
    .requiredOption('--out <file>', 'where the raw bytes go')
    .option('--json', 'print {"width", "height", "channels"}')
    .addHelpText(
      'after',
      `
Example:
  internvl preprocess --model examples/demo-model --image examples/pictures/shapes.png --out shapes.rgb`,
    )
    .action(async (flags: PreprocessFlags) => {
      const file = await readInputFile(flags.image, '--image');
      const { preprocess } = await import('./preprocess-picture.ts');
      const { rgb, size } = await preprocess(flags.model, file);
      await writeFile(flags.out, rgb);
      const shape = { height: size, width: size, channels: 3 };
      process.stdout.write(
        flags.json === true
          ? `${JSON.stringify(shape)}\n`
          : `${flags.out}: ${size} x ${size} x 3, uint8 RGB\n`,
      );
    });
}
