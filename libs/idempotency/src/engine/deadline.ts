/** A point in time on the process's own monotonic clock; steps of the wall clock do not move it. */
export class Deadline {
  readonly #at: number;

  constructor(milliseconds: number) {
    this.#at = performance.now() + milliseconds;
  }

  get remainingMs(): number {
    return Math.max(0, this.#at - performance.now());
  }

  get isOver(): boolean {
    return this.remainingMs === 0;
  }

  /** Resolves with what `work` resolves with, or with `'over'` when the deadline comes first. */
  async race<T>(work: Promise<T>): Promise<T | 'over'> {
    let timer: NodeJS.Timeout | undefined;
    const over = new Promise<'over'>((resolve) => {
      timer = setTimeout(() => resolve('over'), this.remainingMs);
    });
    try {
      return await Promise.race([work, over]);
    } finally {
      clearTimeout(timer);
    }
  }
}
