import { during, type Hand, type Workshop } from './hand.js';

/** PostgreSQL crashes, and recovers. */
export class Crasher implements Hand {
  readonly name = 'crash';

  async strike({ world, log, tally }: Workshop): Promise<void> {
    await during(log, 'crash', 'PostgreSQL', () => world.database.crash());
    tally.add('database crash');
  }
}
