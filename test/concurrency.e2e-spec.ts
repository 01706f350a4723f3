import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CartProcess, roundRobin, startCart } from './support/cart-process.js';
import { createDatabase, isPooled, type TestDatabase } from './support/database.js';
import { type Answer, send, statuses } from './support/http.js';
import { until } from './support/until.js';

const REQUESTS = 200;
/** How many keys, one after another; `npm run test:storm` is the long form, with 50. A fifth of them where only the platform differs. */
const KEYS = Number(process.env['STORM_KEYS'] ?? 2);
const FEW_KEYS = Math.ceil(KEYS / 5);

/** Sends `REQUESTS` identical requests at once under one key: a cart of its own, three books. */
async function storm(nextUrl: () => string, key: string): Promise<Answer[]> {
  return Promise.all(
    Array.from({ length: REQUESTS }, () =>
      send(`${nextUrl()}/carts/user-${key}/items`, {
        headers: { 'idempotency-key': key },
        body: { itemId: 'book', quantity: 3 },
      }),
    ),
  );
}

async function quantityOf(database: TestDatabase, key: string): Promise<number | undefined> {
  const rows = await database.rows<{ quantity: number }>(
    'SELECT quantity FROM cart_items WHERE user_id = $1',
    [`user-${key}`],
  );
  return rows[0]?.quantity;
}

const SETUPS = [
  { instances: 1, env: {}, keys: KEYS },
  { instances: 1, env: { HTTP_PLATFORM: 'fastify', PIPELINE: 'false' }, keys: FEW_KEYS },
  { instances: 4, env: {}, keys: KEYS },
  { instances: 4, env: { HTTP_PLATFORM: 'fastify', PIPELINE: 'false' }, keys: FEW_KEYS },
] as const;

describe.each(SETUPS)('$instances process(es) on one database, $env', ({ instances, env, keys }) => {
  describe.each(['reject', 'wait'] as const)('with onInFlight: %s', (onInFlight) => {
    let database: TestDatabase;
    let carts: CartProcess[] = [];

    beforeAll(async () => {
      database = await createDatabase();
      carts = await Promise.all(
        Array.from({ length: instances }, () =>
          startCart({ databaseUrl: database.url, env: { ...env, ON_IN_FLIGHT: onInFlight } }),
        ),
      );
    });

    afterAll(async () => {
      await Promise.all(carts.map((cart) => cart.end()));
      await database.drop();
    });

    it(`adds to the cart once when ${REQUESTS} identical requests arrive together, for each of ${keys} keys`, async () => {
      const nextUrl = roundRobin(carts);
      for (let round = 0; round < keys; round++) {
        const key = randomUUID();
        const answers = await storm(nextUrl, key);

        expect(await quantityOf(database, key)).toBe(3);
        const successes = answers.filter(({ status }) => status < 300);
        expect(new Set(successes.map(({ text }) => text)).size).toBe(1);
        const { 200: replays = 0, 201: firsts = 0, 409: conflicts = 0 } = statuses(answers);
        expect({ firsts, all: firsts + replays + conflicts }).toEqual({ firsts: 1, all: REQUESTS });
        if (onInFlight === 'wait') expect(conflicts).toBe(0);
      }
      const records = await database.rows('SELECT status, attempt FROM idempotency_keys GROUP BY 1, 2');
      expect(records).toEqual([{ status: 'completed', attempt: 1 }]);
    }, 180_000);

    it('leaves no transaction open and takes no more connections than the pools have', async () => {
      // The connection of a refused duplicate goes back to its pool while the answer is already on its way.
      const all = await until('no transaction is open', async () => {
        const [row] = await database.rows<{ open: number; all: number }>(
          `SELECT count(*) FILTER (WHERE state LIKE 'idle in transaction%')::int AS open, count(*)::int AS all
             FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'cart'`,
        );
        return row?.open === 0 && row.all;
      });
      expect(all).toBeGreaterThan(0);
      // A connection of a pooler bears the name of whoever had it last: those of the queue count as well.
      expect(all).toBeLessThanOrEqual(instances * (isPooled() ? 12 : 10));
    });
  });
});
