/** What the process believes of the database's clock counts for so long; then it has to hear from it again. */
const FRESH_MS = 60_000;
/** A tighter bound is preferred to a newer one for so long: the clocks may drift apart, or the database may be another one. */
const PREFERRED_MS = 15_000;
/** By how much the process's own two clocks may come apart before the machine must have slept, or was set. */
const SLEPT_MS = 1_000;

interface Observation {
  /** The database's clock minus this process's monotonic one, at most. */
  readonly offset: number;
  readonly at: number;
  /** The wall clock minus the monotonic one: it jumps when the machine sleeps. */
  readonly wall: number;
}

/**
 * The database's clock as this process knows it from what the database said last: what is said to expire there must not be
 * taken for alive here, however wrong the clock of this machine is.
 */
export class DatabaseClock {
  #seen: Observation | undefined;

  /**
   * @param databaseMs what the database's clock said, in milliseconds since 1970.
   * @param askedAt when it was asked, by `performance.now()`: it cannot have looked earlier.
   */
  observe(databaseMs: number, askedAt: number): void {
    const now = performance.now();
    const offset = databaseMs - askedAt;
    // A slow answer says less: the smaller offset is the closer one.
    if (this.#isCloser(offset, databaseMs, now)) return;
    this.#seen = { offset, at: now, wall: Date.now() - now };
  }

  /** Whether what is known says more than an observation with `offset`, and is not refuted by it. */
  #isCloser(offset: number, databaseMs: number, now: number): boolean {
    const seen = this.#seen;
    if (!seen || seen.offset > offset || now - seen.at >= PREFERRED_MS || this.latest() === undefined)
      return false;
    // That clock was set forward, or it is another server's by now.
    const isRefuted = databaseMs - now > seen.offset;
    return !isRefuted;
  }

  /** What time it is there at most; `undefined` when the database has not been heard from for a minute. */
  latest(): number | undefined {
    const now = performance.now();
    const seen = this.#seen;
    if (!seen || now - seen.at > FRESH_MS) return undefined;
    if (Math.abs(Date.now() - now - seen.wall) > SLEPT_MS) return undefined;
    return now + seen.offset;
  }
}
