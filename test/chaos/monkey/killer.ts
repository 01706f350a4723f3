import { setTimeout as pause } from 'node:timers/promises';
import { until } from '../../../deploy/local/until.js';
import type { Failpoint } from 'nestjs-pg-idempotency/testing';
import type { Wish } from '../clients/subject.js';
import type { Random } from '../random.js';
import type { Instance } from '../world/instance.js';
import { during, type Hand, withInstance, type Workshop } from './hand.js';
import { FAILPOINT_NAMES, FAILPOINTS, OWNED } from './failpoints.js';
import { freedAfter } from './freed.js';

/** A request that has not come to the point by then never does: it was a replay, or something else broke it. */
const REACHED_WITHIN_MS = 1_500;
const FREED_WITHIN_MS = 5_000;
const ASK_AGAIN_MS = 5;

/** kill -9 at a failpoint, or wherever the process is; and the retry on another instance. */
export class Killer implements Hand {
  readonly name = 'kill';
  #next = 0;

  async strike(workshop: Workshop, random: Random): Promise<void> {
    await withInstance(workshop, random, async (instance) => {
      // In turn, so that none is left out.
      const point = FAILPOINT_NAMES[this.#next++ % FAILPOINT_NAMES.length] as Failpoint;
      const wish = workshop.traffic.newWish(random, random.pick(FAILPOINTS[point]));
      await during(workshop.log, 'kill', `${instance.index} at ${point}`, () =>
        this.#kill(workshop, instance, point, wish),
      );
    });
  }

  async #kill(workshop: Workshop, instance: Instance, point: Failpoint, wish: Wish): Promise<void> {
    const { caller, tally, world } = workshop;
    const died = instance.died();
    instance.sabotage(point, 'kill');
    const answered = caller.call(wish, { url: instance.url });
    const late = new AbortController();
    const isReached = await Promise.race([
      died.then(() => true),
      pause(REACHED_WITHIN_MS, false, { signal: late.signal }).catch(() => false),
    ]);
    late.abort();
    if (!isReached) instance.signal('SIGKILL');
    await died;
    tally.add(isReached ? `kill at ${point}` : 'kill anywhere');
    if (isReached && wish.mode === 'transaction' && OWNED.includes(point)) {
      const retried = this.#answeredElsewhere(workshop, instance, wish);
      const freed = await freedAfter(world.database.url, wish, FREED_WITHIN_MS);
      if (freed === undefined) tally.add('owner whose key was not seen free');
      else tally.freedMs.push(freed);
      const ms = await retried;
      if (ms !== undefined) tally.answeredMs.push(ms);
    }
    await answered;
    // The next one is struck when this one serves again.
    await until('the instance is up again', () => instance.isUp, 60_000);
  }

  /** Milliseconds until another instance has answered for good. */
  async #answeredElsewhere(
    { world, caller, taken }: Workshop,
    dead: Instance,
    wish: Wish,
  ): Promise<number | undefined> {
    const began = performance.now();
    while (performance.now() - began < FREED_WITHIN_MS) {
      const other = world.instances.find(
        ({ index, isUp }) => index !== dead.index && isUp && !taken.has(index),
      );
      if (other === undefined) return undefined;
      const { kind } = await caller.call(wish, { url: other.url });
      if (kind === 'ok') return performance.now() - began;
      await pause(ASK_AGAIN_MS);
    }
    return undefined;
  }
}
