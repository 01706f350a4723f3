import { readFileSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { ExpiredRecordReaper } from '../libs/idempotency/src/reaper/expired-record.reaper.js';
import { IdempotencyStore } from '../libs/idempotency/src/store/idempotency.store.js';
import { type CartProcess, startCart } from './support/cart-process.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { type Answer, send } from './support/http.js';
import { openPayment, type Payment } from './support/payment.js';
import { until } from './support/until.js';

/** As the documentation tells operators to do it. */
const PARTITIONING = /```sql\n(BEGIN;\n[^`]*PARTITION BY HASH[^`]*)```/.exec(
  readFileSync(new URL('../docs/scaling.md', import.meta.url), 'utf8'),
)?.[1] as string;

describe('a table of records that is partitioned by hash', () => {
  let database: TestDatabase;
  let payment: Payment;
  let cart: CartProcess;
  /** A record from before, in flight in lease mode: its charge was made and its answer lost. */
  const halfDone = randomUUID();
  const before = randomUUID();

  const env = (): Record<string, string> => ({ PAYMENT_PROVIDER_URL: payment.url, LEASE_TTL: '1s' });
  const add = (key: string, headers: Record<string, string> = {}, url = cart.url): Promise<Answer> =>
    send(`${url}/carts/user-${key}/items`, {
      headers: { 'idempotency-key': key, ...headers },
      body: { itemId: 'book', quantity: 3 },
    });
  const checkout = (key: string): Promise<Answer> =>
    send(`${cart.url}/carts/user-${key}/checkout`, { headers: { 'idempotency-key': `checkout-${key}` } });
  const quantity = async (key: string): Promise<unknown> =>
    (await database.rows('SELECT quantity FROM cart_items WHERE user_id = $1', [`user-${key}`]))[0]?.[
      'quantity'
    ];
  const record = async (key: string): Promise<pg.QueryResultRow | undefined> =>
    (
      await database.rows(
        'SELECT status, attempt, tableoid::regclass::text AS partition FROM idempotency_keys WHERE key = $1',
        [key],
      )
    )[0];

  beforeAll(async () => {
    database = await createDatabase();
    payment = await openPayment();
    cart = await startCart({ databaseUrl: database.url, env: env() });
    await add(before);
    await add(halfDone);
    await payment.setFaults({ dropAfter: 1 });
    expect((await checkout(halfDone)).status).toBe(502);
    await payment.setFaults({});
    // While the application runs.
    await database.pool.query(PARTITIONING);
  });
  afterAll(async () => {
    await cart?.end();
    await payment?.close();
    await database?.drop();
  });

  it('has the records that were there before, and replays them', async () => {
    const replay = await add(before);
    expect(await quantity(before)).toBe(3);
    expect([replay.status, replay.headers['idempotent-replayed']]).toEqual([200, 'true']);
  });

  it('goes on from a journal that was there before: one charge', async () => {
    const answer = await checkout(halfDone);
    const charges = await payment.charges();
    expect(charges.map(({ calls }) => calls)).toEqual([2]);
    expect(answer.status).toBe(201);
    expect((await checkout(halfDone)).text).toBe(answer.text);
  });

  it('runs a request once and replays it, over all partitions', async () => {
    const keys = Array.from({ length: 40 }, () => randomUUID());
    const firsts = await Promise.all(keys.map((key) => add(key)));
    const replays = await Promise.all(keys.map((key) => add(key)));
    for (const key of keys) expect(await quantity(key)).toBe(3);
    expect(new Set(firsts.map(({ status }) => status))).toEqual(new Set([201]));
    expect(replays.map(({ status, text }) => ({ status, text }))).toEqual(
      firsts.map(({ text }) => ({ status: 200, text })),
    );
    const used = new Set(await Promise.all(keys.map(async (key) => (await record(key))?.['partition'])));
    expect(used.size).toBe(4);
  });

  it('runs again what was rolled back', async () => {
    const key = randomUUID();
    const failed = await add(key, { 'x-demo-fail': 'after-write' });
    expect(await quantity(key)).toBeUndefined();
    expect(await record(key)).toMatchObject({ status: 'error', attempt: 1 });
    const retried = await add(key);
    expect(await quantity(key)).toBe(3);
    expect([failed.status, retried.status]).toEqual([500, 201]);
  });

  it('takes over from a process that was killed, and counts it', async () => {
    const key = randomUUID();
    const doomed = await startCart({ databaseUrl: database.url, env: env(), stopAt: 'handler-returned' });
    const lost = add(key, {}, doomed.url).catch(() => undefined);
    await doomed.reached();
    const meanwhile = await add(key);
    await doomed.end('SIGKILL');
    await lost;
    const retried = await until('it is answered for good', async () => {
      const answer = await add(key);
      return answer.status !== 409 && answer;
    });
    expect(await quantity(key)).toBe(3);
    expect(await record(key)).toMatchObject({ status: 'completed', attempt: 2 });
    expect([meanwhile.status, retried.status]).toEqual([409, 201]);
  });

  it('is checked at start as any other', async () => {
    const another = await startCart({ databaseUrl: database.url, env: env() });
    await another.end();
  });

  it('loses its expired records to the reaper, from all partitions, and no other', async () => {
    const all = await database.rows('SELECT FROM idempotency_keys');
    const gone = await database.rows(
      `UPDATE idempotency_keys SET expires_at = clock_timestamp() - interval '1 second'
        WHERE status = 'completed' AND key NOT LIKE 'checkout-%' RETURNING tableoid`,
    );
    const pool = new pg.Pool({ connectionString: database.directUrl, max: 1 });
    const connect = async () => {
      const client = await pool.connect();
      return { client: client as unknown as pg.Client, release: (error?: Error) => client.release(error) };
    };
    const store = new IdempotencyStore('idempotency_keys', { connect }, inject('postgresVersion'));
    const reaper = new ExpiredRecordReaper(
      store,
      { intervalMs: undefined, batch: 10, acquireTimeoutMs: 10_000 },
      () => undefined,
    );
    const reaped = await reaper.reap();
    await pool.end();
    expect(new Set(gone.map(({ tableoid }) => tableoid)).size).toBe(4);
    expect(reaped).toBe(gone.length);
    expect(await database.rows('SELECT FROM idempotency_keys')).toHaveLength(all.length - gone.length);
  });
});
