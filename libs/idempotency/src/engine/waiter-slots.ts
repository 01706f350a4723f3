import type { Deadline } from './deadline.js';

/**
 * Bounds how many connections of the pool are spent on waiting for attempts of other processes. One waits per key;
 * further duplicates of that key wait for that one. So waiting can never drain the pool that the attempts need.
 */
export class WaiterSlots {
  readonly #byKey = new Map<string, Promise<void>>();
  readonly #queue: (() => void)[] = [];
  #free: number;

  constructor(slots: number) {
    this.#free = slots;
  }

  /**
   * Runs `wait` with a connection slot, unless somebody in this process already waits for the same key.
   *
   * @returns what `wait` returned; `'shared'` when another one waited for this key meanwhile; at the deadline `'over'` when that
   *   one still waits, and `'no-slot'` when there was none for this key.
   */
  async use<T>(
    keyHash: Buffer,
    deadline: Deadline,
    wait: () => Promise<T>,
  ): Promise<T | 'shared' | 'over' | 'no-slot'> {
    const id = keyHash.toString('base64');
    const other = this.#byKey.get(id);
    if (other) return (await deadline.race(other)) === 'over' ? 'over' : 'shared';

    let done!: () => void;
    this.#byKey.set(id, new Promise((resolve) => (done = resolve)));
    try {
      if (!(await this.#take(deadline))) return 'no-slot';
      try {
        return await wait();
      } finally {
        this.#giveBack();
      }
    } finally {
      this.#byKey.delete(id);
      done();
    }
  }

  async #take(deadline: Deadline): Promise<boolean> {
    if (this.#free > 0) {
      this.#free--;
      return true;
    }
    let granted!: () => void;
    const turn = new Promise<void>((resolve) => (granted = resolve));
    this.#queue.push(granted);
    if ((await deadline.race(turn)) !== 'over') return true;
    const position = this.#queue.indexOf(granted);
    // Granted at the very moment the deadline came: the slot is ours and goes to the next one.
    if (position === -1) this.#giveBack();
    else this.#queue.splice(position, 1);
    return false;
  }

  #giveBack(): void {
    const next = this.#queue.shift();
    if (next) next();
    else this.#free++;
  }
}
