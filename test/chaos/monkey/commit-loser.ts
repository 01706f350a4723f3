import { setTimeout as pause } from 'node:timers/promises';
import type { Random } from '../random.js';
import { SPARED } from './lending.js';
import { during, type Hand, type Workshop } from './hand.js';

const MET_WITHIN_MS = 1_000;

/** COMMIT is carried out, and nobody hears of it. */
export class CommitLoser implements Hand {
  readonly name = 'lost COMMIT';

  async strike({ world, log, tally }: Workshop, random: Random): Promise<void> {
    const { index } = random.pick(world.instances.filter(({ index: of, isUp }) => isUp || of === SPARED));
    const way = world.databaseWays[index];
    if (way === undefined) return;
    await during(log, 'lost COMMIT', String(index), async () => {
      const met = way.loseCommitAnswer().then(() => tally.add('lost COMMIT'));
      const late = new AbortController();
      // When nothing commits on this way now, the next one that does is the one.
      await Promise.race([
        met,
        pause(MET_WITHIN_MS, undefined, { signal: late.signal }).catch(() => undefined),
      ]);
      late.abort();
    });
  }
}
