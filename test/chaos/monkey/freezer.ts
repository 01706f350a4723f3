import { setTimeout as pause } from 'node:timers/promises';
import type { Failpoint } from 'nestjs-pg-idempotency/testing';
import type { Random } from '../random.js';
import { LEASE_MS, MAX_RUNTIME_MS } from '../world/world.js';
import { FAILPOINTS } from './failpoints.js';
import { during, type Hand, withInstance, type Workshop } from './hand.js';

/** Where an attempt still has something to write. */
const POINTS: readonly Failpoint[] = [
  'after-claim',
  'handler-returned',
  'record-written',
  'step-begins',
  'step-done',
  'phase-begins',
  'phase-done',
];
/** Long enough to lose the record: its transaction is ended by the server, its lease is over. */
const FROZEN_MS = Math.max(MAX_RUNTIME_MS, LEASE_MS) + 300;
const REACHED_WITHIN_MS = 500;

/** Freezes a process in the middle of an attempt until it has lost its record, and lets it go on: a zombie. */
export class Freezer implements Hand {
  readonly name = 'freeze';
  #next = 0;

  async strike(workshop: Workshop, random: Random): Promise<void> {
    const { log, traffic, caller, tally } = workshop;
    await withInstance(workshop, random, async (instance) => {
      const point = POINTS[this.#next++ % POINTS.length] as Failpoint;
      const wish = traffic.newWish(random, random.pick(FAILPOINTS[point]));
      await during(log, 'freeze', `${instance.index} at ${point}`, async () => {
        instance.sabotage(point, 'freeze');
        const answered = caller.call(wish, { url: instance.url });
        await pause(REACHED_WITHIN_MS);
        // Others take the record meanwhile.
        const retries = [
          pause(FROZEN_MS - REACHED_WITHIN_MS),
          pause(FROZEN_MS - 100).then(() => caller.call(wish)),
        ];
        await Promise.all(retries);
        instance.disarm();
        instance.signal('SIGCONT');
        await answered;
      });
      tally.add(`zombie at ${point}`);
    });
  }
}
