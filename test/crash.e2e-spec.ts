import { randomUUID } from 'node:crypto';
import type { Failpoint } from 'nestjs-pg-idempotency/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CartProcess, startCart } from './support/cart-process.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { type Answer, send } from './support/http.js';
import { until } from './support/until.js';

/** `npm run test:crash` is the long form, with 20. */
const KILLS = Number(process.env['KILLS'] ?? 1);
/** How soon after the kill the retry must be answered for good. */
const FREE_WITHIN_MS = 1_000;

interface Point {
  readonly name: string;
  readonly stopAt?: Failpoint;
  /** What the retry finds: an effect that is committed (a replay), or none (it runs). */
  readonly committed: boolean;
  /** Whether the dead attempt had begun, so that the retry is a later attempt. */
  readonly begun: boolean;
}

const POINTS: readonly Point[] = [
  { name: 'before the claim', stopAt: 'before-claim', committed: false, begun: false },
  { name: 'after the claim', stopAt: 'after-claim', committed: false, begun: true },
  { name: 'in the middle of the handler', committed: false, begun: true },
  { name: "after the handler's last write", stopAt: 'handler-returned', committed: false, begun: true },
  {
    name: "after the record's UPDATE, before COMMIT",
    stopAt: 'record-written',
    committed: false,
    begun: true,
  },
  { name: 'after COMMIT was sent, its answer not read', stopAt: 'commit-sent', committed: true, begun: true },
  { name: 'after COMMIT, before the answer', stopAt: 'committed', committed: true, begun: true },
];

describe.each([
  { pipeline: 'true', platform: 'express' },
  { pipeline: 'false', platform: 'fastify' },
])('kill -9 of the serving process (pipeline: $pipeline, $platform)', ({ pipeline, platform }) => {
  const env = { PIPELINE: pipeline, HTTP_PLATFORM: platform };
  let database: TestDatabase;
  let survivor: CartProcess;
  /** Milliseconds from each kill to the answer of its retry. */
  const freed: number[] = [];

  const add = (url: string, key: string, headers: Record<string, string> = {}): Promise<Answer> =>
    send(`${url}/carts/user-${key}/items`, {
      headers: { 'idempotency-key': key, ...headers },
      body: { itemId: 'book', quantity: 3 },
    });

  beforeAll(async () => {
    database = await createDatabase();
    survivor = await startCart({ databaseUrl: database.url, env });
  });

  afterAll(async () => {
    await survivor.end();
    await database.drop();
    const sorted = freed.toSorted((a, b) => a - b).map(Math.round);
    console.log(
      `${sorted.length} kills; retry answered after ${sorted[sorted.length >> 1]} ms (median), ${sorted.at(-1)} ms (longest)`,
    );
  });

  it.each(POINTS)(
    `adds to the cart exactly once: $name, ${KILLS} times`,
    async ({ stopAt, committed, begun }) => {
      const starting = Array.from({ length: KILLS }, () =>
        startCart({ databaseUrl: database.url, env, ...(stopAt ? { stopAt } : {}) }),
      );
      for (const started of starting) {
        const victim = await started;
        const key = randomUUID();
        // Nothing of it comes back: the process dies with it.
        const lost = add(victim.url, key, stopAt ? {} : { 'x-demo-delay-ms': '10000' }).catch(
          () => 'lost' as const,
        );
        if (stopAt) await victim.reached();
        else await until('the handler has written', () => midHandler(database));
        await victim.end('SIGKILL');
        const killedAt = performance.now();

        const retry = await until('the retry is answered for good', async () => {
          const answer = await add(survivor.url, key);
          return answer.status === 409 ? undefined : answer;
        });
        const freeAfter = performance.now() - killedAt;
        freed.push(freeAfter);

        const [item] = await database.rows('SELECT quantity FROM cart_items WHERE user_id = $1', [
          `user-${key}`,
        ]);
        expect(item).toEqual({ quantity: 3 });
        const [record] = await database.rows('SELECT status, attempt FROM idempotency_keys WHERE key = $1', [
          key,
        ]);
        expect(record).toEqual({ status: 'completed', attempt: begun && !committed ? 2 : 1 });
        expect(await lost).toBe('lost');
        expect({ status: retry.status, replayed: retry.headers['idempotent-replayed'] }).toEqual(
          committed ? { status: 200, replayed: 'true' } : { status: 201, replayed: 'false' },
        );
        expect(freeAfter).toBeLessThan(FREE_WITHIN_MS);
        const again = await add(survivor.url, key);
        expect({ status: again.status, text: again.text }).toEqual({ status: 200, text: retry.text });
      }
    },
    30_000 + KILLS * 15_000,
  );
});

describe('a request that kills its process every time', () => {
  it('is not run again after five processes, and answers 500 from then on', async () => {
    const database = await createDatabase();
    const survivor = await startCart({ databaseUrl: database.url });
    const key = randomUUID();
    const add = (url: string): Promise<Answer> =>
      send(`${url}/carts/poison/items`, {
        headers: { 'idempotency-key': key },
        body: { itemId: 'x', quantity: 1 },
      });
    for (let deaths = 1; deaths <= 5; deaths++) {
      const victim = await startCart({ databaseUrl: database.url, stopAt: 'after-claim' });
      const lost = add(victim.url).catch(() => 'lost');
      await victim.reached();
      await victim.end('SIGKILL');
      expect(await lost).toBe('lost');
    }
    const answer = await until('the lock of the last victim is gone', async () => {
      const retry = await add(survivor.url);
      return retry.status === 409 ? undefined : retry;
    });
    const [record] = await database.rows(
      'SELECT status, attempt, abandoned FROM idempotency_keys WHERE key = $1',
      [key],
    );
    expect(record).toEqual({ status: 'pending', attempt: 5, abandoned: 4 });
    expect(await database.rows('SELECT FROM cart_items')).toHaveLength(0);
    expect(answer.status).toBe(500);
    expect(answer.json()).toMatchObject({ code: 'IDEMPOTENCY_ATTEMPTS_EXHAUSTED' });
    await survivor.end();
    await database.drop();
  }, 60_000);
});

/** A transaction has written its cart row and waits for the application. */
async function midHandler(database: TestDatabase): Promise<boolean> {
  const [row] = await database.rows<{ found: boolean }>(
    `SELECT EXISTS (SELECT FROM pg_stat_activity a JOIN pg_locks l USING (pid)
      WHERE a.datname = current_database() AND a.state = 'idle in transaction'
        AND l.relation = 'cart_items'::regclass AND l.mode = 'RowExclusiveLock') AS found`,
  );
  return row?.found === true;
}
