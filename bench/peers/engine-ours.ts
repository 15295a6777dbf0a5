// Our engine behind the protocol of engine-process.ts.
import { createInterface } from 'node:readline';
import type { WeightDType } from '../../runtime/model/tensor-plan.ts';
import { native, type Tensor } from '../../runtime/native/index.ts';
import { ModelUnderTest } from '../model-under-test.ts';
import { MAX_MS, type Command, type Pass, type Reply, type TimedPass } from './engine-process.ts';

const ops = native();
/** Of a context of a thousand tokens. */
const BLOCKS_PER_SEQUENCE = 64;

let model: ModelUnderTest | undefined;
let probe: Tensor | undefined;

function run(command: Command): Reply {
  if (command.op === 'load') {
    if (command.device === 'cuda') ops.useDevice('cuda', 0);
    probe = ops.allocate('float32', [1]);
    model = new ModelUnderTest(command.shape, {
      dtype: command.dtype as WeightDType,
      quantization: command.quantization,
      threads: command.threads,
      ...(command.sequences !== undefined && { kvBlocks: command.sequences * BLOCKS_PER_SEQUENCE }),
    });
    return {};
  }
  if (model === undefined) throw new Error('nothing is loaded');
  if (command.op === 'bytes') return { bytes: model.decodeBytes(command.sequences, command.context) };
  return { seconds: timed(passOf(model, command), command) };
}

function passOf(model: ModelUnderTest, command: Pass): () => void {
  if (command.op === 'decode') return model.decode(command.sequences, command.context);
  if (command.op === 'prefill') return model.prefill(command.tokens);
  if (command.op === 'prefillProducts') return model.prefillProducts(command.tokens);
  if (command.op === 'imageProducts') return model.imageProducts();
  return () => model.encodeImage();
}

function timed(run: () => void, { times, warmUp }: TimedPass): number[] {
  const whole = (): void => {
    run();
    if (probe !== undefined) ops.readFloat32(probe); // waits for a device
  };
  if (warmUp) whole();
  const seconds: number[] = [];
  const end = performance.now() + MAX_MS;
  while (seconds.length < times && (seconds.length === 0 || performance.now() < end)) {
    const begin = performance.now();
    whole();
    seconds.push((performance.now() - begin) / 1000);
  }
  return seconds;
}

for await (const line of createInterface({ input: process.stdin })) {
  let reply: Reply;
  try {
    reply = run(JSON.parse(line) as Command);
  } catch (error) {
    reply = { error: (error as Error).message };
  }
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
