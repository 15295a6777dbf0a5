import { Command, Option } from 'commander';
import type { Placement } from '../runtime/model/placement.ts';
import { parseTensorParallelSize } from './option-parsers.ts';
import { table } from './table.ts';
import { isTerminal, styler } from './terminal.ts';

interface InspectFlags {
  model: string;
  tensorParallelSize: 1 | 2 | 4 | 8;
  dtype: 'float32' | 'bfloat16';
  quantization: 'none' | 'int8' | 'fp8';
  kvCacheDtype: 'auto' | 'fp8';
  json?: true;
}

const BLOCK_SIZE = 16;
const COUNT = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 4 });

export function inspectCommand(): Command {
  return new Command('inspect')
    .description(
      'Says what each rank of a model holds and what fits on which GPU; needs only its config.json.',
    )
    .requiredOption('--model <dir>', 'checkpoint directory, or one with a config.json alone')
    .option('--tensor-parallel-size <n>', 'ranks of a replica: 1, 2, 4 or 8', parseTensorParallelSize, 1)
    .addOption(
      new Option('--dtype <type>', 'type of the weights')
        .choices(['float32', 'bfloat16'])
        .default('bfloat16'),
    )
    .addOption(
      new Option('--quantization <type>', "int8 or fp8: the decoder's linear layers in a byte each")
        .choices(['none', 'int8', 'fp8'])
        .default('none'),
    )
    .addOption(
      new Option('--kv-cache-dtype <type>', 'type of keys and values; auto: that of the model')
        .choices(['auto', 'fp8'])
        .default('auto'),
    )
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  internvl inspect --model examples/demo-model --tensor-parallel-size 2
  internvl inspect --model ./InternVL-Chat-V1-2-Plus --tensor-parallel-size 8 --json`,
    )
    .action(async (flags: InspectFlags) => {
      const [{ readModelConfig }, { describePlacement }] = await Promise.all([
        import('./read-model-config.ts'),
        import('../runtime/model/placement.ts'),
      ]);
      const model = await readModelConfig(flags.model);
      const placement = describePlacement(model, flags.tensorParallelSize, flags.dtype, {
        blockSize: BLOCK_SIZE,
        quantization: flags.quantization,
        kvCacheDtype: flags.kvCacheDtype,
      });
      if (flags.json === true) {
        process.stdout.write(`${JSON.stringify(placement)}\n`);
        return;
      }
      process.stdout.write(formatPlacement(placement, styler(process.stdout), isTerminal(process.stdout)));
    });
}

/** The placement for people. */
export function formatPlacement(
  placement: Placement,
  style: (format: 'bold' | 'dim', text: string) => string,
  aligned: boolean,
): string {
  const {
    worldSize,
    dtype,
    quantization,
    kvCacheDtype,
    parameters,
    ranks,
    visionHeads,
    vocabulary,
    kvBytesPerToken,
    gpus,
  } = placement;
  const lines = [
    style(
      'bold',
      `${COUNT.format(parameters)} parameters, ${dtype}${quantization === 'none' ? '' : ` with ${quantization} weights`}, ${worldSize} rank${worldSize === 1 ? '' : 's'}`,
    ),
    '',
    ...table(
      ['rank', 'vision', 'projector', 'language', 'weights', 'padding'],
      ranks.map((r) => [
        String(r.rank),
        ...[r.visionBytes, r.projectorBytes, r.languageBytes, r.totalBytes, r.paddingBytes].map(formatBytes),
      ]),
      aligned,
    ),
    '',
    `vision heads   ${padded(visionHeads)}`,
    `vocabulary     ${padded(vocabulary)}`,
    `KV cache       ${formatBytes(kvBytesPerToken)} a token on each rank${kvCacheDtype === 'auto' ? '' : `, as ${kvCacheDtype}`}`,
    '',
    ...table(
      ['GPU of each rank', 'memory', 'fits', 'KV cache tokens'],
      gpus.map((g) => [
        g.gpu,
        formatBytes(g.memoryBytes),
        g.fits ? 'yes' : 'no',
        g.fits ? String(g.kvTokens) : '-',
      ]),
      aligned,
    ),
  ];
  return `${lines.join('\n')}\n`;
}

function padded({ real, padded, waste }: Placement['visionHeads']): string {
  return padded === real
    ? `${real}, no padding`
    : `${real} padded to ${padded} (${(100 * waste).toFixed(2)} % unused)`;
}

/** Bytes in binary units, three digits. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const step = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 2 ** (10 * step);
  return `${step === 0 || Number.isInteger(value) ? value : value.toFixed(value < 10 ? 2 : 1)} ${units[step]}`;
}
