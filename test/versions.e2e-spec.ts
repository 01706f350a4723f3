import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CartProcess } from './support/cart-process.js';
import { type CartVersion, unpackCart } from './support/cart-version.js';
import { isInFlight } from './support/in-flight.js';
import { addOne } from './support/rolling.js';
import { expectBoughtOnce, openShop, type Shop } from './support/shop.js';
import { until } from './support/until.js';

/** The most of one item that a cart may hold. */
const FULL = 1_000_000;

let old: CartVersion;
let shop: Shop;
let instances: Record<'0.1.0' | 'this version', CartProcess>;

/** Starts an instance of a version. */
function start(
  version: keyof typeof instances,
  stopAt?: 'handler-returned' | 'step-journaled' | 'committed',
) {
  return shop.start({
    stopAt,
    main: version === '0.1.0' ? old.main : undefined,
    // Not through a pooler of transactions: 0.1.0 is not meant for one.
    env: { DATABASE_URL: shop.database.directUrl },
  });
}

beforeAll(async () => {
  old = unpackCart('0.1.0');
  shop = await openShop({ LEASE_TTL: '500ms' });
  const before = await start('0.1.0');
  instances = { '0.1.0': before, 'this version': await start('this version') };
});
afterAll(async () => {
  await shop.close();
  old.remove();
});

describe.each([
  ['0.1.0', 'this version'],
  ['this version', '0.1.0'],
] as const)('on one table with %s, %s', (first, second) => {
  let user: string;
  let key: string;
  const anew = (): void => {
    user = randomUUID();
    key = randomUUID();
  };
  const record = () =>
    shop.database.rows(
      `SELECT status, attempt, quantity FROM idempotency_keys LEFT JOIN cart_items ON user_id = scope WHERE key = $1`,
      [key],
    );

  it('answers 409 for what the other one is at, and replays it byte for byte when it is done', async () => {
    anew();
    const answering = addOne(instances[first].url, user, key, { 'x-demo-delay-ms': '1500' });
    await isInFlight(shop.database, key);
    const early = await addOne(instances[second].url, user, key);
    const [answer, replay] = [await answering, await addOne(instances[second].url, user, key)];
    expect(await record()).toEqual([{ status: 'completed', attempt: 1, quantity: 1 }]);
    expect([early.status, early.json()['code']]).toEqual([409, 'IDEMPOTENCY_KEY_IN_USE']);
    expect([answer.status, replay.status]).toEqual([201, 200]);
    expect(replay.headers['idempotent-replayed']).toBe('true');
    expect(replay.headers['content-type']).toBe(answer.headers['content-type']);
    expect(replay.body).toEqual(answer.body);
  });

  it('replays the error that a handler of the other one decided on', async () => {
    anew();
    await shop.database.rows(`INSERT INTO cart_items VALUES ($1, 'book', $2, now())`, [user, FULL]);
    const answer = await addOne(instances[first].url, user, key);
    const replay = await addOne(instances[second].url, user, key);
    expect(await record()).toEqual([{ status: 'error', attempt: 1, quantity: FULL }]);
    expect([answer.status, replay.status]).toEqual([409, 409]);
    expect(replay.headers['idempotent-replayed']).toBe('true');
    expect(replay.body).toEqual(answer.body);
  });

  it('answers 422 when a key of the other one comes with another body', async () => {
    anew();
    await addOne(instances[first].url, user, key);
    const other = await addOne(instances[second].url, user, key, {}, 2);
    expect(await record()).toEqual([{ status: 'completed', attempt: 1, quantity: 1 }]);
    expect(other.status).toBe(422);
  });

  it('runs again, once, what the other one was killed at', async () => {
    anew();
    const victim = await start(first, 'handler-returned');
    const lost = addOne(victim.url, user, key).catch(() => 'lost');
    await victim.reached();
    await victim.end('SIGKILL');
    expect(await lost).toBe('lost');
    const answer = await until('the key is free', async () => {
      const again = await addOne(instances[second].url, user, key);
      return again.status !== 409 && again;
    });
    expect(await record()).toEqual([{ status: 'completed', attempt: 2, quantity: 1 }]);
    expect(answer.status).toBe(201);
    expect((await addOne(instances[first].url, user, key)).body).toEqual(answer.body);
  });

  it.each([
    ['goes on with a checkout whose charge the other one has journaled', 'step-journaled'],
    ['replays a checkout that the other one could not answer any more', 'committed'],
  ] as const)('%s', async (_, stopAt) => {
    const victim = await start(first, stopAt);
    const purchase = await shop.fill(victim);
    const lost = shop.checkout(victim, purchase).catch(() => 'lost');
    await victim.reached();
    await victim.end('SIGKILL');
    expect(await lost).toBe('lost');
    const answer = await shop.insist(instances[second], purchase);

    const trace = await shop.trace(purchase);
    expectBoughtOnce(trace, purchase);
    expect(trace.charges[0]?.calls).toBe(1);
    const [attempt, status] = stopAt === 'committed' ? [1, 200] : [2, 201];
    expect(trace.journal).toEqual({ reserve: 1, charge: 1, confirm: attempt });
    expect(trace.record).toEqual({ status: 'completed', attempt });
    expect(answer.status).toBe(status);
    expect((await shop.checkout(instances[first], purchase)).body).toEqual(answer.body);
  });
});

/** What a version to come may do to the tables while this one and 0.1.0 run. */
const LATER_STEP = `
ALTER TABLE idempotency_keys ADD COLUMN later text NOT NULL DEFAULT 'unknown';
ALTER TABLE idempotency_steps ADD COLUMN later text NOT NULL DEFAULT 'unknown';
INSERT INTO idempotency_keys_migrations (name) VALUES ('9999-later')`;

describe('on tables that a later version adds a column to', () => {
  it.each(['0.1.0', 'this version'] as const)('%s goes on, and starts', async (version) => {
    const running = await start(version);
    const user = randomUUID();
    const [before, after, started] = [randomUUID(), randomUUID(), randomUUID()];
    const bought = await shop.fill(running);
    const first = await addOne(running.url, user, before);
    await shop.insist(running, await shop.fill(running));
    await shop.database.rows(LATER_STEP);
    try {
      const replay = await addOne(running.url, user, before);
      await addOne(running.url, user, after);
      await shop.insist(running, bought);
      const starting = await start(version);
      await addOne(starting.url, user, started);
      const replayed = await addOne(starting.url, user, before);

      expect(
        await shop.database.rows(
          `SELECT status, attempt, quantity FROM idempotency_keys JOIN cart_items ON user_id = scope WHERE scope = $1`,
          [user],
        ),
      ).toEqual([before, after, started].map(() => ({ status: 'completed', attempt: 1, quantity: 3 })));
      expectBoughtOnce(await shop.trace(bought), bought);
      expect([replay.status, replayed.status]).toEqual([200, 200]);
      expect([replay.text, replayed.text]).toEqual([first.text, first.text]);
    } finally {
      await shop.database.rows(`
        ALTER TABLE idempotency_keys DROP COLUMN later;
        ALTER TABLE idempotency_steps DROP COLUMN later;
        DELETE FROM idempotency_keys_migrations WHERE name = '9999-later'`);
    }
  });
});
