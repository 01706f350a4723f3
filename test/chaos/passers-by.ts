import { setTimeout as pause } from 'node:timers/promises';
import type { Caller } from './clients/caller.js';

/** Uses the route that nothing protects, at a steady pace, whatever became of the calls before: a wait must not hide others. */
export class PassersBy {
  readonly #under = new Set<Promise<unknown>>();
  #isOver = false;
  #running: Promise<void> = Promise.resolve();

  constructor(
    private readonly caller: Caller,
    private readonly everyMs: number,
  ) {}

  start(): void {
    this.#running = this.#pass();
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#running;
    await Promise.all(this.#under);
  }

  async #pass(): Promise<void> {
    for (let number = 1; !this.#isOver; number++) {
      const call = this.caller.passBy('passer-by', number).finally(() => this.#under.delete(call));
      this.#under.add(call);
      await pause(this.everyMs);
    }
  }
}
