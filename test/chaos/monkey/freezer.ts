import { setTimeout as pause } from 'node:timers/promises';
import type { Failpoint } from 'nestjs-pg-idempotency/testing';
import type { Wish } from '../clients/subject.js';
import type { Random } from '../random.js';
import type { Instance } from '../world/instance.js';
import { LEASE_MS, MAX_RUNTIME_MS } from '../world/world.js';
import { FAILPOINTS } from './failpoints.js';
import { during, type Hand, type Workshop } from './hand.js';

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
const REACHED_WITHIN_MS = 1_500;
const LOOK_AGAIN_MS = 10;
/** Over what an attempt has, so that it has lost its record: its transaction is ended by the server, its lease is over. */
const BEYOND_MS = 300;
const FROZEN_MS = { transaction: MAX_RUNTIME_MS + BEYOND_MS, lease: LEASE_MS + BEYOND_MS } as const;

/** Freezes a process in the middle of an attempt until it has lost its record, and lets it go on: a zombie. */
export class Freezer implements Hand {
  readonly name = 'freeze';
  #next = 0;

  async strike(workshop: Workshop, random: Random): Promise<void> {
    const { lending, log, traffic, tally } = workshop;
    await lending.use(random, async (instance) => {
      const turn = this.#next++;
      const point = POINTS[turn % POINTS.length] as Failpoint;
      const route = random.pick(FAILPOINTS[point]);
      // By turns the one that takes over has finished when the frozen one goes on, or is still at work.
      const lingers = route === 'lease-retry' && Math.floor(turn / POINTS.length) % 2 === 1;
      const wish = traffic.newWish(random, { route, ...(lingers ? { behaviour: 'linger' } : {}) });
      await during(log, 'freeze', `${instance.index} at ${point}`, async () => {
        const wasFrozen = await this.#freeze(workshop, instance, point, wish);
        tally.add(wasFrozen ? `zombie at ${point}` : 'freeze whose point was not reached');
      });
    });
  }

  /** Returns whether the process was frozen at the point. */
  async #freeze(workshop: Workshop, instance: Instance, point: Failpoint, wish: Wish): Promise<boolean> {
    const { caller, lending } = workshop;
    if (!(await instance.sabotage(wish.key, point, 'freeze'))) return false;
    const answered = caller.call(wish, { instance });
    const past = new AbortController();
    void answered.then(() => past.abort());
    const began = performance.now();
    while (!instance.isFrozen() && !past.signal.aborted && performance.now() - began < REACHED_WITHIN_MS)
      await pause(LOOK_AGAIN_MS);
    const isReached = instance.isFrozen();
    if (isReached) {
      const frozenMs = FROZEN_MS[wish.mode === 'lease' ? 'lease' : 'transaction'];
      // Somebody else takes the record meanwhile.
      const takeover = pause(frozenMs - 100).then(() =>
        caller.call(wish, { instance: lending.otherThan(instance) }),
      );
      await Promise.all([pause(frozenMs), takeover]);
    }
    instance.disarm();
    instance.signal('SIGCONT');
    await answered;
    return isReached;
  }
}
