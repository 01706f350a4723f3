import { setTimeout as pause } from 'node:timers/promises';
import { askLine } from '../../../deploy/local/local-server.js';
import type { Random } from '../random.js';
import { during, type Hand, type Workshop } from './hand.js';

const WAYS = ['flush', 'freeze', 'restart'] as const;

/** Empties, freezes or restarts what the instances share beside PostgreSQL. */
export class CacheBreaker implements Hand {
  readonly name = 'cache';

  async strike({ world, log, tally }: Workshop, random: Random): Promise<void> {
    const name = random.pick(['redis', 'memcached'] as const);
    const server = world[name];
    const way = random.pick(WAYS);
    await during(log, `cache ${way}`, name, async () => {
      switch (way) {
        case 'flush':
          await askLine(server.port, name === 'redis' ? 'FLUSHALL' : 'flush_all').catch(() => undefined);
          return;
        case 'freeze':
          await server.pause();
          await pause(random.int(100, 1_000));
          server.resume();
          return;
        case 'restart':
          await server.kill();
          await server.restart();
          return;
        default:
          way satisfies never;
      }
    });
    tally.add(`cache ${way}`);
  }
}
