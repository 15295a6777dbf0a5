// The checking process's end of a device's process.
import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { DeviceInfo } from '../runtime/native/index.ts';
import type { Reply, Task } from './messages.ts';

/** The device, or the process that had it, did not do what was asked. */
export class DeviceFailure extends Error {
  override readonly name = 'DeviceFailure';
}

type Of<Type extends Reply['type']> = Extract<Reply, { readonly type: Type }>;

export class DeviceProcess {
  readonly info: DeviceInfo;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, info: DeviceInfo) {
    this.#child = child;
    this.info = info;
  }

  /** Rejects with DeviceFailure where there is no such device. */
  static async start(kind: 'cpu' | 'cuda', index: number): Promise<DeviceProcess> {
    const file = fileURLToPath(new URL(`./device-child${import.meta.filename.slice(-3)}`, import.meta.url));
    const child = fork(file, [kind, String(index)], {
      serialization: 'advanced',
      execArgv: ['--disable-warning=ExperimentalWarning'],
    });
    try {
      const { info } = await reply(child, 'ready');
      return new DeviceProcess(child, info);
    } catch (error) {
      child.kill('SIGKILL');
      throw error;
    }
  }

  /** One task at a time. Rejects with DeviceFailure; after that the device is in no known state: stop it. */
  async run<Type extends Reply['type']>(task: Task, expected: Type): Promise<Of<Type>> {
    const answered = reply(this.#child, expected);
    this.#child.send(task);
    return await answered;
  }

  stop(): void {
    this.#child.kill('SIGKILL');
  }
}

async function reply<Type extends Reply['type']>(child: ChildProcess, expected: Type): Promise<Of<Type>> {
  return await new Promise((resolve, reject) => {
    const ended = (code: number | null, signal: string | null): void => {
      done();
      reject(new DeviceFailure(`its process ended with ${signal ?? `code ${code}`}`));
    };
    const answered = (message: Reply): void => {
      done();
      if (message.type === expected) resolve(message as Of<Type>);
      else
        reject(
          new DeviceFailure(message.type === 'failed' ? message.message : `it answered ${message.type}`),
        );
    };
    const done = (): void => {
      child.off('exit', ended);
      child.off('message', answered);
    };
    child.once('exit', ended);
    child.once('message', answered);
  });
}
