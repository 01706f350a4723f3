import { setTimeout as pause } from 'node:timers/promises';
import type { Caller } from './clients/caller.js';

const EVERY_MS = 50;

/** Uses the route that nothing protects, at a steady pace. */
export class PassersBy {
  #isOver = false;
  #running: Promise<void> = Promise.resolve();

  constructor(private readonly caller: Caller) {}

  start(): void {
    this.#running = this.#pass();
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#running;
  }

  async #pass(): Promise<void> {
    for (let number = 1; !this.#isOver; number++) {
      await this.caller.passBy('passer-by', number);
      await pause(EVERY_MS);
    }
  }
}
