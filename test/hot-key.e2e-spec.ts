import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type CartProcess, startCart } from './support/cart-process.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { send } from './support/http.js';
import { describeWith } from './support/servers.js';
import { startWireCounter, type WireCounter } from '../bench/wire/wire-counter.js';
import { sendStorm, type StormResult } from './support/storm.js';
import { type RedisServer, startRedis } from './support/topology.js';
import { until } from './support/until.js';

const INSTANCES = 4;
const HANDLER_MS = 5_000;
/** Times count where the machine does nothing else: `npm run test:scale`. */
const IS_MEASURED = process.env['HOT_KEY'] === 'measured';
/** Two cores have time to spare at this rate, so that what another route waits for is not a processor. */
const CALM = 2_000;
const RATES = IS_MEASURED ? [CALM, 5_000] : [CALM];
/** Each round is a storm of requests without a key, and one of duplicates. */
const ROUNDS = IS_MEASURED ? 5 : 1;
/** Rounds before, in which the code is still being compiled; they count for statements and effects. */
const WARM_UP = 3;

/** How long a route without `@Idempotent()` took that needs the database, each time, in milliseconds, while `meanwhile` lasted. */
async function bystander(url: string, meanwhile: Promise<unknown>): Promise<number[]> {
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
  return times;
}

function p99(times: readonly number[]): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length * 0.99)] as number;
}

describeWith(['redis-server'], 'duplicates of one key in flight', () => {
  let database: TestDatabase;
  let counter: WireCounter;
  let redis: RedisServer;
  let carts: CartProcess[];
  const urls = (): string[] => carts.map(({ url }) => url);

  beforeAll(async () => {
    [database, redis] = await Promise.all([createDatabase(), startRedis()]);
    counter = await startWireCounter(database.url);
    const env = {
      // On Express two cores do not answer 5,000 requests a second, with a key or without one.
      HTTP_PLATFORM: 'fastify',
      CONFIRMATIONS: 'off',
      REPLAY_CACHE: redis.url,
      REPLAY_CACHE_KEY: randomBytes(32).toString('hex'),
    };
    carts = await Promise.all(
      Array.from({ length: INSTANCES }, () => startCart({ databaseUrl: counter.url, env })),
    );
  });
  afterAll(async () => {
    await Promise.all(carts.map((cart) => cart.end()));
    await counter.stop();
    await Promise.all([database.drop(), redis.stop()]);
  });

  it.each(RATES)(
    'are refused, %d a second, with a bounded number of statements',
    async (perSecond) => {
      const [url] = urls() as [string];
      const storm = (path: string, seconds: number, headers: Record<string, string>): Promise<StormResult> =>
        sendStorm({
          urls: urls(),
          path,
          method: 'POST',
          headers: { 'content-type': 'application/json', ...headers },
          body: '{"itemId":"book","quantity":3}',
          perSecond,
          seconds,
        });
      // So that the instances know the database's clock.
      await storm('/carts/warm/items', 1, { 'idempotency-key': randomUUID() });
      const before = counter.counts().statements;
      const alone = await bystander(url, delay(2_000));
      const each = (counter.counts().statements - before) / alone.length;

      const plain = { sent: 0, seconds: 0, times: [] as number[] };
      const duplicates = { sent: 0, seconds: 0, times: [] as number[], statements: 0 };
      const note = (all: typeof plain, { sent, seconds }: StormResult, times: number[]): void => {
        all.sent += sent;
        all.seconds += seconds;
        all.times.push(...times);
      };
      for (let round = IS_MEASURED ? -WARM_UP : 0; round < ROUNDS; round++) {
        if (round === 0) Object.assign(duplicates, { sent: 0, seconds: 0, times: [] });
        if (round === 0) Object.assign(plain, { sent: 0, seconds: 0, times: [] });
        // As many that cost the platform the same, and the database nothing: they are refused for want of a key.
        const passing = storm('/carts/nobody/items', 3, {});
        const beside = await bystander(url, passing);
        note(plain, await passing, beside);

        const key = randomUUID();
        const headers = { 'idempotency-key': key };
        const first = send(`${url}/carts/user-${key}/items`, {
          headers: { ...headers, 'x-demo-delay-ms': String(HANDLER_MS) },
          body: { itemId: 'book', quantity: 3 },
        });
        await until('it is in flight', async () => {
          const rows = await database.rows('SELECT 1 FROM idempotency_keys WHERE key = $1', [key]);
          return rows.length === 1;
        });
        const asked = counter.counts().statements;
        const blowing = storm(`/carts/user-${key}/items`, HANDLER_MS / 1000 - 1.5, headers);
        const meanwhile = await bystander(url, blowing);
        const blown = await blowing;
        duplicates.statements += counter.counts().statements - asked - Math.round(each * meanwhile.length);
        note(duplicates, blown, meanwhile);
        const { status } = await first;

        const [row] = await database.rows('SELECT quantity FROM cart_items WHERE user_id = $1', [
          `user-${key}`,
        ]);
        expect(row).toEqual({ quantity: 3 });
        expect(status).toBe(201);
        expect(blown.statuses).toEqual({ 409: blown.sent });
      }
      const { sent, seconds, statements } = duplicates;
      const rate = (all: typeof plain): number => Math.round(all.sent / all.seconds);
      const [beside, meanwhile] = [p99(plain.times), p99(duplicates.times)];
      console.log(
        `${sent} duplicates in ${seconds.toFixed(1)} s (${rate(duplicates)}/s): ${statements} statements for them; p99 of ` +
          `another route ${meanwhile.toFixed(1)} ms, ${beside.toFixed(1)} ms beside ${rate(plain)}/s that are refused for want of a key, ` +
          `${p99(alone).toFixed(1)} ms alone`,
      );
      // Where no hint comes in time, each instance asks ten times a second, with five statements; where one does, never.
      expect(statements).toBeLessThan(INSTANCES * 50 * seconds);
      if (!IS_MEASURED) return;
      expect(sent / seconds).toBeGreaterThan(0.95 * perSecond);
      if (perSecond === CALM) expect(meanwhile).toBeLessThan(2 * p99(alone));
    },
    120_000,
  );
});
