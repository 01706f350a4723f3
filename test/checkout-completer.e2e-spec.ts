import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectBoughtOnce, openShop, type Shop } from './support/shop.js';
import { until } from './support/until.js';

const CHECKOUTS = 100;
const INSTANCES = 3;

describe('the completer of the cart', () => {
  let shop: Shop;

  beforeAll(async () => {
    // Longer than a busy machine takes: no lease is over before the victim is killed and the test ends them.
    shop = await openShop({ LEASE_TTL: '60s', COMPLETE_AFTER: '200ms', POOL_SIZE: '20' });
  });
  afterAll(() => shop.close());

  it(`finishes ${CHECKOUTS} checkouts of a killed process once each, on ${INSTANCES} instances, with no client asking`, async () => {
    const [victim, ...instances] = await Promise.all([
      shop.start(),
      ...Array.from({ length: INSTANCES }, () => shop.start({ env: { CONFIRMATIONS: 'on' } })),
    ]);
    const [asked] = instances;
    if (!asked) throw new Error('no instance');
    const purchases = await Promise.all(Array.from({ length: CHECKOUTS }, () => shop.fill(asked)));
    const count = async (sql: string): Promise<number> => {
      const [row] = await shop.database.rows<{ count: number }>(`SELECT count(*)::int AS count FROM ${sql}`);
      return row?.count ?? NaN;
    };

    // Longer than the test: no call of the victim charges.
    await shop.payment.setFaults({ delayMs: 60_000 });
    const lost = purchases.map((purchase) => shop.checkout(victim, purchase).catch(() => 'lost' as const));
    await until(
      'all are reserved',
      async () => (await count(`idempotency_steps WHERE name = 'reserve'`)) === CHECKOUTS,
      30_000,
    );
    await victim.end('SIGKILL');
    await shop.payment.setFaults({});
    expect(await Promise.all(lost)).toEqual(purchases.map(() => 'lost'));
    expect(
      await shop.database.rows(
        'SELECT status, attempt, count(*)::int AS count FROM idempotency_keys GROUP BY status, attempt',
      ),
    ).toEqual([{ status: 'pending', attempt: 1, count: CHECKOUTS }]);
    const [ended] = await shop.database.rows<{ over: Date }>(
      'UPDATE idempotency_keys SET lease_until = clock_timestamp() RETURNING lease_until AS over',
    );
    await until(
      'all are finished',
      async () => (await count(`idempotency_keys WHERE status = 'completed'`)) === CHECKOUTS,
      40_000,
    );
    const [finished] = await shop.database.rows<{ last: Date }>(
      'SELECT max(completed_at) AS last FROM idempotency_keys',
    );
    console.log(
      `${CHECKOUTS} abandoned checkouts were finished ` +
        `${Number(finished?.last) - Number(ended?.over)} ms after their leases were over`,
    );

    for (const purchase of purchases) {
      const trace = await shop.trace(purchase);
      expectBoughtOnce(trace, purchase);
      expect(trace.record).toEqual({ status: 'completed', attempt: 2 });
      expect(trace.journal).toEqual({ reserve: 1, charge: 2, confirm: 2 });
    }
    const charges = await shop.payment.charges();
    expect(charges).toHaveLength(CHECKOUTS);
    expect(new Set(charges.map(({ key }) => key)).size).toBe(CHECKOUTS);
    const [sold] = await shop.database.rows(
      `SELECT sum((line ->> 'quantity')::int)::int AS quantity FROM orders, jsonb_array_elements(lines) AS line`,
    );
    expect(sold).toEqual({ quantity: purchases.reduce((sum, { quantity }) => sum + quantity, 0) });
    await until('all confirmations are sent', () => shop.confirmed(purchases), 30_000);
    expect(await count('order_confirmations')).toBe(CHECKOUTS);
    // The client that comes at last gets what was recorded.
    for (const [index, purchase] of purchases.entries()) {
      const { status } = await shop.checkout(instances[index % INSTANCES] ?? asked, purchase);
      expect(status).toBe(200);
    }
  });
});
