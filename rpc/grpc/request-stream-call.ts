import { ServerCall } from './call.ts';

/**
 * A call with a stream of requests, which come as 'data' once somebody listens, and then 'end'. While it is paused they wait, at most as many bytes as the
 * stream's window and one message.
 */
export class RequestStreamCall extends ServerCall {
  #flowing: boolean | undefined;
  #flowPlanned = false;
  #messages: unknown[] = [];
  #halfClosed = false;
  #endTold = false;

  /** Calls its handler, before anything has come. */
  start(): void {
    this.run();
  }

  override on(event: string, listener: (...args: never[]) => void): this {
    super.on(event, listener as (...args: unknown[]) => void);
    if (event === 'data' && this.#flowing !== false) this.resume();
    return this;
  }

  pause(): this {
    this.#flowing = false;
    return this;
  }

  resume(): this {
    this.#flowing = true;
    if (!this.#flowPlanned && (this.#messages.length > 0 || this.#halfClosed)) {
      this.#flowPlanned = true;
      process.nextTick(() => {
        this.#flowPlanned = false;
        this.#flow();
      });
    }
    return this;
  }

  isPaused(): boolean {
    return this.#flowing === false;
  }

  protected take(message: unknown): void {
    if (this.#flowing === true && this.#messages.length === 0) this.emit('data', message);
    else this.#messages.push(message);
  }

  protected halfClosed(): void {
    this.#halfClosed = true;
    if (this.#flowing === true) this.#flow();
  }

  override get backlog(): boolean {
    return this.#messages.length > 0;
  }

  #flow(): void {
    while (this.#flowing === true && this.#messages.length > 0 && !this.ended)
      this.emit('data', this.#messages.shift());
    if (this.ended) this.#messages = [];
    if (this.#messages.length > 0) return;
    this.release();
    if (!this.#halfClosed || this.#endTold || this.#flowing !== true || this.ended) return;
    this.#endTold = true;
    this.emit('end');
  }
}
