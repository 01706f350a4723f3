import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type CartProcess, startCart } from './support/cart-process.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { send } from './support/http.js';
import { describeWith } from './support/servers.js';
import { type StatementCounter, startStatementCounter } from './support/statement-counter.js';
import { sendStorm, type StormResult } from './support/storm.js';
import { type RedisServer, startRedis } from './support/topology.js';
import { until } from './support/until.js';

const INSTANCES = 4;
const HANDLER_MS = 5_000;
const PER_SECOND = Number(process.env['HOT_KEY_RATE'] ?? 2_000);
/** Times count where the machine does nothing else: `npm run test:scale`. */
const IS_MEASURED = process.env['HOT_KEY_RATE'] !== undefined;

interface Bystander {
  readonly requests: number;
  /** In milliseconds. */
  readonly p99: number;
}

/** Asks a route without `@Idempotent()`, which needs the database, now and then while `meanwhile` lasts. */
async function bystander(url: string, meanwhile: Promise<unknown>): Promise<Bystander> {
  const times: number[] = [];
  const end = new AbortController();
  void meanwhile.finally(() => end.abort());
  while (!end.signal.aborted) {
    const began = performance.now();
    const { status } = await send(`${url}/carts/nobody`, { method: 'GET' });
    expect(status).toBe(200);
    times.push(performance.now() - began);
    await delay(5);
  }
  times.sort((a, b) => a - b);
  return { requests: times.length, p99: times[Math.floor(times.length * 0.99)] as number };
}

describeWith(['redis-server'], `${PER_SECOND} duplicates a second of one key in flight`, () => {
  let database: TestDatabase;
  let counter: StatementCounter;
  let redis: RedisServer;
  let carts: CartProcess[];
  const urls = (): string[] => carts.map(({ url }) => url);

  beforeAll(async () => {
    [database, redis] = await Promise.all([createDatabase(), startRedis()]);
    counter = await startStatementCounter(database.url);
    const env = {
      CONFIRMATIONS: 'off',
      REPLAY_CACHE: redis.url,
      REPLAY_CACHE_KEY: randomBytes(32).toString('hex'),
    };
    carts = await Promise.all(
      Array.from({ length: INSTANCES }, () => startCart({ databaseUrl: counter.through(database.url), env })),
    );
  });
  afterAll(async () => {
    await Promise.all(carts.map((cart) => cart.end()));
    await counter.close();
    await Promise.all([database.drop(), redis.stop()]);
  });

  it('are refused with a bounded number of statements, and hold no other route up', async () => {
    const [url] = urls() as [string];
    const storm = (
      path: string,
      method: 'GET' | 'POST',
      seconds: number,
      headers = {},
    ): Promise<StormResult> =>
      sendStorm({
        urls: urls(),
        path,
        method,
        headers,
        body: method === 'POST' ? '{"itemId":"book","quantity":3}' : '',
        perSecond: PER_SECOND,
        seconds,
      });
    // So that the code is warm, and the instances know the database's clock.
    await storm('/carts/warm/items', 'POST', 1, {
      'content-type': 'application/json',
      'idempotency-key': randomUUID(),
    });
    const before = counter.count;
    const alone = await bystander(url, delay(2_000));
    const each = (counter.count - before) / alone.requests;
    const beside = await bystander(url, storm('/demo/events', 'GET', 3));

    const key = randomUUID();
    const headers = { 'content-type': 'application/json', 'idempotency-key': key };
    const first = send(`${url}/carts/user-${key}/items`, {
      headers: { ...headers, 'x-demo-delay-ms': String(HANDLER_MS) },
      body: { itemId: 'book', quantity: 3 },
    });
    await until('it is in flight', async () => {
      const rows = await database.rows('SELECT 1 FROM idempotency_keys WHERE key = $1', [key]);
      return rows.length === 1;
    });
    const asked = counter.count;
    const blowing = storm(`/carts/user-${key}/items`, 'POST', HANDLER_MS / 1000 - 1.5, headers);
    const meanwhile = await bystander(url, blowing);
    const { sent, statuses, seconds } = await blowing;
    const statements = counter.count - asked - Math.round(each * meanwhile.requests);
    const { status } = await first;

    const [row] = await database.rows('SELECT quantity FROM cart_items WHERE user_id = $1', [`user-${key}`]);
    expect(row).toEqual({ quantity: 3 });
    expect(status).toBe(201);
    expect(statuses).toEqual({ 409: sent });
    console.log(
      `${sent} duplicates in ${seconds.toFixed(1)} s (${Math.round(sent / seconds)}/s): ${statements} statements for them; p99 of ` +
        `another route ${meanwhile.p99.toFixed(1)} ms, ${beside.p99.toFixed(1)} ms beside as many requests without a ` +
        `key, ${alone.p99.toFixed(1)} ms alone`,
    );
    // Where no hint comes in time, each instance asks ten times a second, with five statements; where one does, never.
    expect(statements).toBeLessThan(INSTANCES * 50 * seconds);
    if (IS_MEASURED) expect(meanwhile.p99).toBeLessThan(2 * beside.p99);
  });
});
