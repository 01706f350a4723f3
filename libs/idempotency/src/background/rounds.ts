export interface RoundsParts {
  readonly intervalMs: number;
  readonly round: () => Promise<unknown>;
  readonly onError: (error: unknown) => void;
  /** Whether there is nothing left to look at: no further round, and nothing is held any more. */
  readonly isOver?: (() => boolean) | undefined;
  /** The first round comes anywhere in the interval, so that many that are started together do not come together. */
  readonly isSpread?: boolean | undefined;
}

/** Does something from time to time until it is stopped, one round after another. It keeps no process alive. */
export class Rounds {
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;
  #running: Promise<unknown> = Promise.resolve();

  constructor(private readonly parts: RoundsParts) {}

  get isStopped(): boolean {
    return this.#isStopped;
  }

  start(): void {
    const { intervalMs, isSpread } = this.parts;
    if (!this.#isStopped) this.#schedule(isSpread ? intervalMs * Math.random() : this.#jittered());
  }

  /** Ends the schedule; resolves when the round under way has ended. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  /** Up to a tenth earlier or later, so that instances started together do not come together. */
  #jittered(): number {
    return this.parts.intervalMs * (0.9 + Math.random() * 0.2);
  }

  #schedule(delayMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.parts.isOver?.()) return;
      this.#running = this.#round();
    }, delayMs);
    this.#timer.unref();
  }

  async #round(): Promise<void> {
    const { round, onError, isOver } = this.parts;
    try {
      await round();
    } catch (error) {
      // What was closed under a round's feet is nobody's trouble.
      if (!isOver?.()) onError(error);
    } finally {
      if (!this.#isStopped) this.#schedule(this.#jittered());
    }
  }
}
