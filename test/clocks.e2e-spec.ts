import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { CartProcess } from './support/cart-process.js';
import { clockShifter } from './support/clocks.js';
import { type Answer, send, statuses } from './support/http.js';
import { expectBoughtOnce, openShop, type Purchase, type Shop } from './support/shop.js';
import { until } from './support/until.js';

const LEASE_MS = 500;
const HOUR_MS = 3_600_000;

const shifted = clockShifter();
const TITLE = 'instances whose clocks are an hour apart';
if (!shifted && process.env['CI'] === 'true') {
  throw new Error(`"${TITLE}" needs faketime: apt-get install faketime`);
}
if (!shifted) console.warn(`LEFT OUT, without faketime (apt-get install faketime): all of "${TITLE}"`);

/** By how many hours a clock is wrong. */
type Clock = -1 | 0 | 1;
const CLOCKS = { ahead: 1, behind: -1, right: 0 } as const satisfies Record<string, Clock>;

describe.skipIf(!shifted)(TITLE, () => {
  let shop: Shop;
  const instances = new Map<Clock, CartProcess>();
  const at = (clock: Clock): CartProcess => instances.get(clock) as CartProcess;
  const others = (clock: Clock): Clock[] => ([-1, 0, 1] as const).filter((other) => other !== clock);

  beforeAll(async () => {
    shop = await openShop({ LEASE_TTL: `${LEASE_MS}ms` });
    await Promise.all(
      Object.values(CLOCKS).map(async (clock) =>
        instances.set(clock, await shop.start({ env: shifted?.(clock) ?? {} })),
      ),
    );
  });
  afterEach(async () => shop.payment.setFaults({}));
  afterAll(() => shop.close());

  interface Times {
    readonly now: Date;
    readonly created_at: Date;
    readonly expires_at: Date;
    readonly lease_until: Date | null;
    readonly completed_at: Date | null;
  }
  /** By the database's clock. */
  const times = async ({ key }: Purchase): Promise<Times | undefined> => {
    const [row] = await shop.database.rows<Times>(
      `SELECT clock_timestamp() AS now, created_at, expires_at, lease_until, completed_at
       FROM idempotency_keys WHERE key = $1`,
      [key],
    );
    return row;
  };
  const known = async (purchase: Purchase): Promise<Times> =>
    until('the record is there', () => times(purchase));

  it('are what these are', async () => {
    for (const [clock, { url }] of instances) {
      const { headers } = await send(`${url}/health`, { method: 'GET' });
      const wrongBy = Date.parse(headers.date ?? '') - Date.now();
      expect(Math.abs(wrongBy - clock * HOUR_MS)).toBeLessThan(10_000);
    }
  });

  it.each(Object.entries(CLOCKS))(
    'never take the checkout of a live owner, whose clock is %s and whose provider takes longer than three leases',
    async (_, clock) => {
      const purchase = await shop.fill(at(clock));
      await shop.payment.setFaults({ delayMs: 4 * LEASE_MS });
      let isOver = false;
      const owner = shop.checkout(at(clock), purchase).finally(() => (isOver = true));
      await known(purchase);
      const early: Answer[] = [];
      await until('the owner has answered', async () => {
        const asked = await Promise.all(others(clock).map((other) => shop.checkout(at(other), purchase)));
        if (!isOver) early.push(...asked);
        return isOver;
      });
      const answer = await owner;

      const trace = await shop.trace(purchase);
      expectBoughtOnce(trace, purchase);
      expect(trace.charges[0]?.calls).toBe(1);
      expect(trace.record).toEqual({ status: 'completed', attempt: 1 });
      expect(answer.status).toBe(201);
      expect(early.length).toBeGreaterThan(10);
      // The last ones may have been asked while it ended.
      expect(statuses(early.slice(0, -4))).toEqual({ 409: early.length - 4 });
      for (const other of others(clock)) {
        const { status, text } = await shop.checkout(at(other), purchase);
        expect({ status, text }).toEqual({ status: 200, text: answer.text });
      }
    },
  );

  it.each([
    ['ahead', 'behind'],
    ['ahead', 'right'],
    ['behind', 'ahead'],
    ['behind', 'right'],
  ] as const)(
    'take the checkout of a dead owner when its lease is over: its clock %s, the next one %s',
    async (of, next) => {
      const env = shifted?.(CLOCKS[of]) ?? {};
      const victim = await shop.start({ stopAt: 'step-begins', env });
      const purchase = await shop.fill(victim);
      const lost = shop.checkout(victim, purchase).catch(() => 'lost');
      await victim.reached();
      await victim.end('SIGKILL');
      expect(await lost).toBe('lost');
      const { now: killed, lease_until: over } = await known(purchase);
      const answer = await shop.insist(at(CLOCKS[next]), purchase);

      const trace = await shop.trace(purchase);
      expectBoughtOnce(trace, purchase);
      expect(trace.record).toEqual({ status: 'completed', attempt: 2 });
      const { completed_at: completed } = await known(purchase);
      const [since, end, done] = [killed, over, completed].map((time) => Number(time));
      expect(end).toBeLessThanOrEqual(Number(since) + LEASE_MS);
      expect(done).toBeGreaterThanOrEqual(Number(end));
      expect(done).toBeLessThan(Number(end) + 3_000);
      expect(answer.status).toBe(201);
    },
  );

  it.each(Object.entries(CLOCKS))(
    'count on the clock of the database: when a record began and when it expires, the one that makes it %s',
    async (_, clock) => {
      const purchase = await shop.fill(at(clock));
      const answer = await shop.checkout(at(clock), purchase);
      const { now, created_at: created, expires_at: expires } = await known(purchase);
      expect(Math.abs(now.getTime() - created.getTime())).toBeLessThan(30_000);
      expect(expires.getTime() - created.getTime()).toBeCloseTo(24 * HOUR_MS, -3);
      expect(answer.status).toBe(201);

      const setExpiry = async (minutes: number): Promise<void> =>
        void (await shop.database.rows(
          `UPDATE idempotency_keys SET expires_at = clock_timestamp() + $2::int * interval '1 minute' WHERE key = $1`,
          [purchase.key, minutes],
        ));
      // Half an hour to go: for a clock that is ahead it would be over.
      await setExpiry(30);
      for (const other of [clock, ...others(clock)]) {
        const replay = await shop.checkout(at(other), purchase);
        expect({ status: replay.status, text: replay.text }).toEqual({ status: 200, text: answer.text });
      }
      expectBoughtOnce(await shop.trace(purchase), purchase);
      // Over for half an hour: for a clock that is behind it would not be. The cart is empty by now.
      for (const other of [clock, ...others(clock)]) {
        await setExpiry(-30);
        const fresh = await shop.checkout(at(other), purchase);
        expect({ status: fresh.status, message: fresh.json()['message'] }).toEqual({
          status: 409,
          message: 'The cart is empty: there is nothing to check out',
        });
      }
    },
  );
});
