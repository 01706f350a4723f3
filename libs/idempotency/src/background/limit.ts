/** Lets a number of pieces of work run at a time; further ones queue in the order they came. */
export class Limit {
  readonly #queue: (() => void)[] = [];
  #free: number;

  constructor(atATime: number) {
    this.#free = atATime;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((granted) => this.#queue.push(granted));
    try {
      return await work();
    } finally {
      // Handed on, not given back: whoever comes in between must not overtake the queue.
      const next = this.#queue.shift();
      if (next) next();
      else this.#free++;
    }
  }
}
