import { Deadline } from './deadline.js';

/** The application is shutting down: the request has run nothing here, and may be sent to another instance. */
export class ShuttingDownError extends Error {
  override readonly name = 'ShuttingDownError';
  constructor() {
    super('the application is shutting down');
  }
}

/** What became of work under {@link Drain.run}. */
export type Drained<T> = { readonly kind: 'done'; readonly value: T } | { readonly kind: 'turned-away' };

/** One request with a key, from when it was let in until its work is over. */
interface Present {
  /** Its handler runs. */
  begun: boolean;
  readonly turnAway: () => void;
}

const TURNED_AWAY = { kind: 'turned-away' } as const;

/**
 * Lets requests with a key in until the application shuts down, and knows which of them still run. What has begun comes to its end
 * then; what only waits, for a connection or for another attempt, is turned away at once, to be repeated on another instance.
 */
export class Drain {
  readonly #present = new Set<Present>();
  #isDraining = false;
  #onEmpty: (() => void) | undefined;

  /** How many requests are being worked on. */
  get size(): number {
    return this.#present.size;
  }

  /**
   * Does a request's work. It calls `begin` right before the handler, which throws a {@link ShuttingDownError} when the request
   * was turned away meanwhile: then the handler must not run, its client may have run it elsewhere by now.
   *
   * @throws what `work` throws.
   */
  run<T>(work: (begin: () => void) => Promise<T>): Promise<Drained<T>> {
    if (this.#isDraining) return Promise.resolve(TURNED_AWAY);
    return new Promise((resolve, reject) => {
      const present: Present = { begun: false, turnAway: () => resolve(TURNED_AWAY) };
      this.#present.add(present);
      const begin = (): void => {
        // Fail closed: everybody who had not begun was sent elsewhere when draining began.
        if (this.#isDraining) throw new ShuttingDownError();
        present.begun = true;
      };
      // It is there until its work is done, also when its client was answered before: it may hold a connection.
      work(begin).then(
        (value) => {
          this.#leave(present);
          return resolve({ kind: 'done', value });
        },
        (error: unknown) => {
          this.#leave(present);
          reject(error);
        },
      );
    });
  }

  #leave(present: Present): void {
    this.#present.delete(present);
    if (this.size === 0) this.#onEmpty?.();
  }

  /** Lets nobody in from now on, and resolves with how many are still there when all have left or the time is over. */
  async drain(timeoutMs: number): Promise<number> {
    this.#isDraining = true;
    for (const { begun, turnAway } of this.#present) if (!begun) turnAway();
    const empty = new Promise<void>((resolve) => (this.#onEmpty = resolve));
    if (this.size > 0) await new Deadline(timeoutMs).race(empty);
    return this.size;
  }
}
