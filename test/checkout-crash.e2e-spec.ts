import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CartProcess, StopAt } from './support/cart-process.js';
import { expectBoughtOnce, openShop, type Purchase, type Shop } from './support/shop.js';
import { until } from './support/until.js';

/** `npm run test:crash` is the long form. */
const KILLS = Number(process.env['KILLS'] ?? 1);
const LEASE_MS = 500;
/** Where the provider is slow: its first heartbeat must not come before the order is reserved. */
const LONG_LEASE_MS = 1_000;
/** How soon after the end of the lease the retry must be answered for good. */
const FREE_WITHIN_MS = 2_000;

interface Point {
  readonly name: string;
  readonly stopAt: StopAt;
  /** Which attempt did what. That of the killed process is the first, if it came as far as to begin one. */
  readonly journal: Readonly<Record<'reserve' | 'charge' | 'confirm', number>>;
  /** How often the provider was asked to charge. */
  readonly calls?: number;
  /** Whether the answer was recorded, so that the retry is a replay. */
  readonly recorded?: boolean;
}

const upTo = (reserve: number, charge: number, confirm: number): Point['journal'] => ({
  reserve,
  charge,
  confirm,
});

const POINTS: readonly Point[] = [
  { name: 'before the claim', stopAt: 'before-claim', journal: upTo(1, 1, 1) },
  { name: 'after the claim', stopAt: 'after-claim', journal: upTo(2, 2, 2) },
  { name: 'before the transaction that reserves', stopAt: 'phase-begins', journal: upTo(2, 2, 2) },
  { name: 'after the order is made, before COMMIT', stopAt: 'phase-done', journal: upTo(2, 2, 2) },
  {
    name: 'after the COMMIT of the order was sent, its answer not read',
    stopAt: 'phase-commit-sent',
    journal: upTo(1, 2, 2),
  },
  { name: 'after the order is reserved', stopAt: 'phase-committed', journal: upTo(1, 2, 2) },
  { name: 'before the charge', stopAt: 'step-begins', journal: upTo(1, 2, 2) },
  { name: 'after the charge, before it is journaled', stopAt: 'step-done', journal: upTo(1, 2, 2), calls: 2 },
  { name: 'after the charge is journaled', stopAt: 'step-journaled', journal: upTo(1, 1, 2) },
  { name: 'before the transaction that confirms', stopAt: 'phase-begins#2', journal: upTo(1, 1, 2) },
  { name: 'after the order is paid, before COMMIT', stopAt: 'phase-done#2', journal: upTo(1, 1, 2) },
  {
    name: 'after the COMMIT of the paid order was sent, its answer not read',
    stopAt: 'phase-commit-sent#2',
    journal: upTo(1, 1, 1),
  },
  { name: 'after the order is confirmed', stopAt: 'phase-committed#2', journal: upTo(1, 1, 1) },
  { name: 'after the handler', stopAt: 'handler-returned', journal: upTo(1, 1, 1) },
  {
    name: 'after the answer was sent to the record, its outcome not read',
    stopAt: 'commit-sent',
    journal: upTo(1, 1, 1),
    recorded: true,
  },
  {
    name: 'after the answer is recorded, before the client has it',
    stopAt: 'committed',
    journal: upTo(1, 1, 1),
    recorded: true,
  },
];

describe('kill -9 of the process that checks out', () => {
  let shop: Shop;
  let survivor: CartProcess;
  const purchases: Purchase[] = [];
  let kills = 0;
  /** Milliseconds from each last kill to the answer of its retry, with the short lease. */
  const freed: number[] = [];

  beforeAll(async () => {
    shop = await openShop({ LEASE_TTL: `${LEASE_MS}ms` });
    survivor = await shop.start({ env: { CONFIRMATIONS: 'on' } });
  });

  afterAll(async () => {
    await shop.close();
    const sorted = freed.toSorted((a, b) => a - b).map(Math.round);
    console.log(
      `${kills} kills; with a lease of ${LEASE_MS} ms the retry was answered after ` +
        `${sorted[sorted.length >> 1]} ms (median), ${sorted.at(-1)} ms (longest)`,
    );
  });

  /** At the victim: what it does for the first time takes longest, and is not to outlast the lease. */
  const fill = async (at: CartProcess): Promise<Purchase> => {
    const purchase = await shop.fill(at);
    purchases.push(purchase);
    return purchase;
  };
  /** Lets it come to its failpoint with the checkout, and kills it there; nothing comes back. */
  const killWith = async (victim: CartProcess, purchase: Purchase): Promise<void> => {
    const lost = shop.insist(victim, purchase).then(
      ({ status, text }) => Promise.reject(new Error(`it answered ${status} ${text}\n${victim.output()}`)),
      () => 'lost' as const,
    );
    await Promise.race([victim.reached(), lost]);
    await victim.end('SIGKILL');
    kills++;
    expect(await lost).toBe('lost');
  };
  /** Goes on with it at the instance that lives. */
  const expectFinished = async (
    purchase: Purchase,
    { journal, calls = 1, recorded = false }: Omit<Point, 'name' | 'stopAt'>,
    attempt: number,
    leaseMs = LEASE_MS,
  ): Promise<void> => {
    const killedAt = performance.now();
    const retry = await shop.insist(survivor, purchase);
    const freeAfter = performance.now() - killedAt;
    if (leaseMs === LEASE_MS) freed.push(freeAfter);

    const trace = await shop.trace(purchase);
    expectBoughtOnce(trace, purchase);
    expect(trace.charges[0]?.calls).toBe(calls);
    expect(trace.journal).toEqual(journal);
    expect(trace.record).toEqual({ status: 'completed', attempt });
    expect({ status: retry.status, replayed: retry.headers['idempotent-replayed'] }).toEqual(
      recorded ? { status: 200, replayed: 'true' } : { status: 201, replayed: 'false' },
    );
    expect(freeAfter).toBeLessThan(leaseMs + FREE_WITHIN_MS);
    const again = await shop.checkout(survivor, purchase);
    expect({ status: again.status, text: again.text }).toEqual({ status: 200, text: retry.text });
  };
  const timeoutMs = 30_000 + KILLS * 15_000;

  describe.concurrent('buys once', () => {
    it.each(POINTS)(
      `$name, ${KILLS} times`,
      async ({ stopAt, ...point }) => {
        for (let kill = 0; kill < KILLS; kill++) {
          const victim = await shop.start({ stopAt });
          const purchase = await fill(victim);
          await killWith(victim, purchase);
          const isFirst = point.recorded === true || stopAt === 'before-claim';
          await expectFinished(purchase, point, isFirst ? 1 : 2);
        }
      },
      timeoutMs,
    );

    it.each([
      { name: 'knows of the request', stopAt: 'before-claim', attempt: 2 },
      { name: 'has taken it over', stopAt: 'after-claim', attempt: 3 },
      { name: 'is about to charge again', stopAt: 'step-begins', attempt: 3 },
    ] as const)(
      `when the instance that comes next is killed too, as it $name, ${KILLS} times`,
      async ({ stopAt, attempt }) => {
        for (let kill = 0; kill < KILLS; kill++) {
          const [first, second] = await Promise.all([
            shop.start({ stopAt: 'step-done' }),
            shop.start({ stopAt }),
          ]);
          const purchase = await fill(first);
          await killWith(first, purchase);
          await killWith(second, purchase);
          await expectFinished(purchase, { journal: upTo(1, attempt, attempt), calls: 2 }, attempt);
        }
      },
      timeoutMs,
    );
  });

  describe('while the provider takes its time', () => {
    it.each([
      { name: 'before a heartbeat', stopAt: 'heartbeat-due' },
      { name: 'after a heartbeat', stopAt: 'heartbeat-done' },
    ] as const)(
      `buys once: $name, ${KILLS} times`,
      async ({ stopAt }) => {
        for (let kill = 0; kill < KILLS; kill++) {
          const victim = await shop.start({ stopAt, env: { LEASE_TTL: `${LONG_LEASE_MS}ms` } });
          const purchase = await fill(victim);
          await shop.payment.setFaults({ delayMs: 2 * LONG_LEASE_MS });
          await killWith(victim, purchase);
          await shop.payment.setFaults({});
          await expectFinished(purchase, { journal: upTo(1, 2, 2), calls: 2 }, 2, LONG_LEASE_MS);
        }
      },
      timeoutMs,
    );
  });

  it('has charged once for each, and sent one confirmation', async () => {
    const charges = await shop.payment.charges();
    expect(charges).toHaveLength(purchases.length);
    expect(new Set(charges.map(({ key }) => key)).size).toBe(purchases.length);
    await until('the confirmations are sent', () => shop.confirmed(purchases));
    expect(await shop.database.rows('SELECT FROM order_confirmations')).toHaveLength(purchases.length);
  });
});
