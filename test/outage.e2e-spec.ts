import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../apps/cart/src/database/embedded-postgres.js';
import { type CartProcess, startCart } from './support/cart-process.js';
import { createDatabase, isPooled, type TestDatabase } from './support/database.js';
import { send } from './support/http.js';
import { startPgBouncer, type PgBouncerServer } from './support/topology.js';
import { until } from './support/until.js';

const CLIENTS = 16;
/** `npm run test:crash` is the long form, with 100 rounds and 5 restarts. */
const TERMINATIONS = Number(process.env['TERMINATIONS'] ?? 30);
const RESTARTS = Number(process.env['RESTARTS'] ?? 2);
const POOL_SIZE = 10;

/** Statuses that tell a client to come again with the same key. */
const RETRY = new Set([409, 503]);

interface Load {
  /** Every answer by status, those to retries included. */
  readonly counts: Record<number, number>;
  readonly keys: Set<string>;
  /** Answers that no client should get. */
  readonly odd: string[];
  /** Lets every client finish its current key, then stops. */
  stop(): Promise<void>;
}

/** Clients that each add one book under one key after another, retrying a key until it is answered for good. */
function startLoad(url: string): Load {
  const counts: Record<number, number> = {};
  const keys = new Set<string>();
  const odd: string[] = [];
  const stop = new AbortController();
  const addBook = async (key: string): Promise<void> => {
    for (;;) {
      const answer = await send(`${url}/carts/user-${key}/items`, {
        headers: { 'idempotency-key': key },
        body: { itemId: 'book', quantity: 3 },
      });
      counts[answer.status] = (counts[answer.status] ?? 0) + 1;
      if (answer.status === 200 || answer.status === 201) return;
      if (!RETRY.has(answer.status)) {
        odd.push(`${answer.status} ${answer.text}`);
        return;
      }
      expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
      // Clients wait as long as they are told; this one is in a hurry, which is harder on the server.
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const clients = Array.from({ length: CLIENTS }, async () => {
    while (!stop.signal.aborted) {
      const key = randomUUID();
      keys.add(key);
      await addBook(key);
    }
  });
  // A client that fails is reported by stop(); until then nobody awaits it.
  for (const client of clients) client.catch(() => stop.abort());
  return {
    counts,
    keys,
    odd,
    stop: async () => {
      stop.abort();
      await Promise.all(clients);
    },
  };
}

describe('PostgreSQL fails under load', () => {
  let dataDir: string;
  let server: EmbeddedPostgres;
  let pooler: PgBouncerServer | undefined;
  let database: TestDatabase;
  let cart: CartProcess;

  beforeEach(async () => {
    dataDir = mkdtempSync(join(tmpdir(), 'idempotency-outage-'));
    server = await startEmbeddedPostgres({ dataDir });
    if (isPooled())
      pooler = await startPgBouncer({
        serverUrl: server.url,
        poolSize: POOL_SIZE,
        settings: { server_login_retry: 0.1 },
      });
    database = await createDatabase(server.url, pooler?.url());
    cart = await startCart({
      databaseUrl: database.url,
      env: { POOL_SIZE: String(POOL_SIZE), LOG_LEVEL: 'fatal' },
    });
  });

  afterEach(async () => {
    // What it printed is the first thing to read when it died.
    if (!cart.isRunning()) console.error(cart.output().slice(-5_000));
    await cart.end();
    await database.pool.end();
    await pooler?.stop();
    await server.stop('immediate');
    rmSync(dataDir, { recursive: true, force: true });
  });

  /** Every key's effect once, whatever its client went through; nothing left open; the pool whole again. */
  async function expectExactlyOnce(load: Load): Promise<void> {
    expect(load.odd).toEqual([]);
    const items = await database.rows<{ quantity: number; carts: number }>(
      'SELECT quantity, count(*)::int AS carts FROM cart_items GROUP BY quantity',
    );
    expect(items).toEqual([{ quantity: 3, carts: load.keys.size }]);
    const records = await database.rows<{ status: string; records: number }>(
      'SELECT status, count(*)::int AS records FROM idempotency_keys GROUP BY status',
    );
    expect(records).toEqual([{ status: 'completed', records: load.keys.size }]);
    expect(cart.isRunning()).toBe(true);
    // As many handlers at once as the pool has connections: none of them is lost.
    const inParallel = await Promise.all(
      Array.from({ length: POOL_SIZE }, () =>
        send(`${cart.url}/carts/after/items`, {
          headers: { 'idempotency-key': randomUUID(), 'x-demo-delay-ms': '300' },
          body: { itemId: randomUUID(), quantity: 1 },
        }),
      ),
    );
    expect(inParallel.map(({ status }) => status)).toEqual(Array(POOL_SIZE).fill(201));
    const connections = await until('no transaction is open', async () => {
      const [row] = await database.rows<{ open: number; all: number }>(
        `SELECT count(*) FILTER (WHERE state LIKE 'idle in transaction%')::int AS open, count(*)::int AS all
           FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name <> 'test'`,
      );
      return row?.open === 0 && row.all;
    });
    expect(connections).toBeLessThanOrEqual(POOL_SIZE + 4);
  }

  it(`survives pg_terminate_backend on every connection, ${TERMINATIONS} times`, async () => {
    const load = startLoad(cart.url);
    let terminated = 0;
    for (let round = 0; round < TERMINATIONS; round++) {
      const before = load.keys.size;
      const [row] = await database.rows<{ count: number }>(
        `SELECT count(pg_terminate_backend(pid))::int AS count FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid()`,
      );
      terminated += row?.count ?? 0;
      await until('the load goes on', () => load.keys.size >= before + CLIENTS / 2);
    }
    await load.stop();
    await expectExactlyOnce(load);
    expect(terminated).toBeGreaterThan(TERMINATIONS);
    console.log(
      `terminated ${terminated} backends; ${load.keys.size} keys; answers ${JSON.stringify(load.counts)}`,
    );
  }, 120_000);

  it(`answers 503 while PostgreSQL is down and goes on when it is back, ${RESTARTS} times`, async () => {
    const load = startLoad(cart.url);
    for (let round = 0; round < RESTARTS; round++) {
      const before = load.keys.size;
      await until('the load runs', () => load.keys.size >= before + 4 * CLIENTS);
      const unavailable = load.counts[503] ?? 0;
      await server.stop(round % 2 === 0 ? 'fast' : 'immediate');
      await until('clients are answered 503', () => (load.counts[503] ?? 0) > unavailable + CLIENTS);
      server = await startEmbeddedPostgres({ dataDir, port: server.port });
    }
    const before = load.keys.size;
    await until('the load goes on', () => load.keys.size >= before + 4 * CLIENTS);
    await load.stop();
    await expectExactlyOnce(load);
    console.log(`${RESTARTS} restarts; ${load.keys.size} keys; answers ${JSON.stringify(load.counts)}`);
  }, 180_000);
});
