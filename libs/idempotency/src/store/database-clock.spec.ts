import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DatabaseClock } from './database-clock.js';

/** The database's clock may be anywhere; this process's monotonic one counts its own time. */
const EPOCH = 1_764_000_000_000;

beforeEach(() => void vi.useFakeTimers({ toFake: ['performance', 'Date'], now: 0 }));
afterEach(() => void vi.useRealTimers());

const pass = (ms: number): void => void vi.advanceTimersByTime(ms);

/** Asks, with so long a way there and back. */
function ask(clock: DatabaseClock, { there = 0, back = 0, ahead = 0 } = {}): void {
  const askedAt = performance.now();
  pass(there);
  const said = EPOCH + performance.now() + ahead;
  pass(back);
  clock.observe(said, askedAt);
}
const truly = (): number => EPOCH + performance.now();

describe('DatabaseClock', () => {
  it('knows nothing before the database was heard from, and nothing a minute after', () => {
    const clock = new DatabaseClock();
    expect(clock.latest()).toBeUndefined();
    ask(clock);
    pass(60_000);
    expect(clock.latest()).toBe(truly());
    pass(1);
    expect(clock.latest()).toBeUndefined();
    ask(clock);
    expect(clock.latest()).toBe(truly());
  });

  it('is never behind the clock of the database, however long the answers take', () => {
    const way = fc.record({
      pause: fc.integer({ min: 0, max: 30_000 }),
      there: fc.integer({ min: 0, max: 5_000 }),
      back: fc.integer({ min: 0, max: 5_000 }),
    });
    fc.assert(
      fc.property(fc.array(way, { minLength: 1, maxLength: 20 }), (ways) => {
        const clock = new DatabaseClock();
        for (const { pause, ...asking } of ways) {
          pass(pause);
          ask(clock, asking);
          const latest = clock.latest();
          expect(latest).toBeGreaterThanOrEqual(truly());
        }
      }),
    );
  });

  it('keeps the closer of two bounds for a while, and does not hold on to it for ever', () => {
    const clock = new DatabaseClock();
    ask(clock);
    ask(clock, { there: 400 });
    expect(clock.latest()).toBe(truly());
    pass(15_000);
    ask(clock, { there: 400 });
    expect(clock.latest()).toBe(truly() + 400);
    ask(clock, { there: 10 });
    expect(clock.latest()).toBe(truly() + 10);
  });

  it('believes at once a database whose clock is further than it can have been', () => {
    const clock = new DatabaseClock();
    ask(clock);
    ask(clock, { ahead: 5_000, there: 3, back: 3 });
    expect(clock.latest()).toBeGreaterThanOrEqual(truly() + 5_000);
  });

  it("does not care for this machine's time of day", () => {
    const clock = new DatabaseClock();
    vi.setSystemTime(-9 * 3_600_000);
    ask(clock);
    pass(1_000);
    expect(clock.latest()).toBe(truly());
  });

  it.each([
    ['forward, as when the machine slept', 5_000],
    ['back', -5_000],
  ])('knows nothing when the time of day has jumped %s, until the database says more', (_, jump) => {
    const clock = new DatabaseClock();
    ask(clock);
    vi.setSystemTime(Date.now() + jump);
    expect(clock.latest()).toBeUndefined();
    // A slower answer than the one before: that one is not to be believed any more.
    ask(clock, { there: 200 });
    expect(clock.latest()).toBe(truly() + 200);
  });
});
