import { setTimeout as pause } from 'node:timers/promises';
import { until } from '../../../deploy/local/until.js';
import type { Failpoint } from 'nestjs-pg-idempotency/testing';
import type { Outcome } from '../clients/outcome.js';
import type { Wish } from '../clients/subject.js';
import type { Random } from '../random.js';
import type { Instance } from '../world/instance.js';
import { during, type Hand, type Workshop } from './hand.js';
import { FAILPOINT_NAMES, FAILPOINTS, HOLDS_ROW, LINGERS, OWNED } from './failpoints.js';
import { FreedProbe } from './freed.js';

/** A request that has not come to the point by then never does: it was a replay, or something else broke it. */
const REACHED_WITHIN_MS = 1_500;
const FREED_WITHIN_MS = 5_000;
const ANSWERED_WITHIN_MS = 10_000;
const ASK_AGAIN_MS = 5;

/** Every point, again and again, so that none is left out. */
export function* inTurn(): Generator<Failpoint, never> {
  for (;;) yield* FAILPOINT_NAMES;
}

/** kill -9 at a failpoint, or wherever the process is; and the retry on another instance. */
export class Killer implements Hand {
  readonly name = 'kill';
  readonly #probe: FreedProbe;

  /** @param turns which point is next; those that kill at the same time share it. */
  constructor(
    databaseUrl: string,
    private readonly turns: Iterator<Failpoint, never>,
  ) {
    this.#probe = new FreedProbe(databaseUrl);
  }

  async strike(workshop: Workshop, random: Random): Promise<void> {
    await workshop.lending.use(random, async (instance) => {
      // In turn, so that none is left out.
      const point = this.turns.next().value;
      const behaviour = LINGERS.includes(point) ? 'linger' : undefined;
      const wish = workshop.traffic.newWish(random, { route: random.pick(FAILPOINTS[point]), behaviour });
      await during(workshop.log, 'kill', `${instance.index} at ${point}`, () =>
        this.#kill(workshop, instance, point, wish),
      );
      // The next one is struck when this one serves again.
      await until('the instance is up again', () => instance.isUp, 60_000);
    });
  }

  async close(): Promise<void> {
    await this.#probe.close();
  }

  async #kill(workshop: Workshop, instance: Instance, point: Failpoint, wish: Wish): Promise<void> {
    const { caller, tally } = workshop;
    const isProbed =
      wish.mode === 'transaction' && HOLDS_ROW.includes(point) && (await this.#probe.isReady());
    const died = instance.died();
    await instance.sabotage(wish.key, point, 'kill');
    const answered = caller.call(wish, { instance });
    const isReached = await this.#isReached(died, answered);
    if (!isReached) instance.signal('SIGKILL');
    await died;
    const goneAtMs = Date.now();
    tally.add(isReached ? `kill at ${point}` : 'kill anywhere');
    if (isReached && wish.mode === 'transaction' && OWNED.includes(point)) {
      const diedAt = performance.now();
      // Before somebody asks for the key again, and holds it as the dead one did.
      if (isProbed) {
        const freedAtMs = await this.#probe.freedAtMs(wish, FREED_WITHIN_MS);
        const signalAtMs = instance.diedAtMs(wish.key);
        if (freedAtMs === undefined) tally.add('owner whose key was not seen free');
        else if (signalAtMs === undefined) tally.add('owner whose last words were not heard');
        else {
          tally.freedMs.push(freedAtMs - goneAtMs);
          tally.freedFromSignalMs.push(freedAtMs - signalAtMs);
        }
      }
      const ms = await this.#answeredElsewhere(workshop, instance, wish, diedAt);
      if (ms !== undefined) tally.answeredMs.push(ms);
    }
    await answered;
  }

  /** Whether the process dies of it. An answer tells that it does not; a connection that ends may be the first sign of it. */
  async #isReached(died: Promise<void>, answered: Promise<Outcome>): Promise<boolean> {
    const late = new AbortController();
    const isPast = answered.then(({ kind }) => (kind === 'unknown' ? died.then(() => true) : false));
    try {
      return await Promise.race([
        died.then(() => true),
        isPast,
        pause(REACHED_WITHIN_MS, false, { signal: late.signal }).catch(() => false),
      ]);
    } finally {
      late.abort();
    }
  }

  /** Milliseconds from the death until another instance has answered for good. */
  async #answeredElsewhere(
    workshop: Workshop,
    dead: Instance,
    wish: Wish,
    diedAt: number,
  ): Promise<number | undefined> {
    while (performance.now() - diedAt < ANSWERED_WITHIN_MS) {
      const { kind } = await workshop.caller.call(wish, { instance: workshop.lending.otherThan(dead) });
      if (kind === 'ok') return performance.now() - diedAt;
      await pause(ASK_AGAIN_MS);
    }
    return undefined;
  }
}
