import type { TestDatabase } from '../support/database.js';
import { Ground } from './ground.js';

/** The grounds of a database: one for each scenario that is played at a time. */
export class Grounds {
  readonly #free: Ground[] = [];
  #made = 0;

  constructor(private readonly database: TestDatabase) {}

  async on<T>(work: (ground: Ground) => Promise<T>): Promise<T> {
    const ground = this.#free.pop() ?? (await Ground.open(this.database, `ground${this.#made++}`));
    try {
      return await work(ground);
    } finally {
      this.#free.push(ground);
    }
  }

  async close(): Promise<void> {
    for (const ground of this.#free) await ground.close();
  }
}
