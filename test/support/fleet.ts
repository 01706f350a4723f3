import { randomBytes } from 'node:crypto';
import { type CartProcess, startCart } from './cart-process.js';
import { createDatabase, type TestDatabase } from './database.js';
import { send } from './http.js';
import { startNginx, type NginxServer } from './topology.js';

/** Instances of the cart behind nginx, on a database of their own. */
export interface Fleet {
  readonly url: string;
  readonly database: TestDatabase;
  readonly carts: readonly CartProcess[];
  /** What has happened to records so far, over all instances. */
  events(): Promise<Record<string, number>>;
  /** Transactions that the database has begun and ended so far, those of this question among them. */
  transactions(): Promise<number>;
  close(): Promise<void>;
}

export interface FleetOptions {
  readonly instances?: number;
  /** As `REPLAY_CACHE` takes it. */
  readonly cache?: string;
  readonly env?: Record<string, string>;
}

export async function openFleet({ instances = 4, cache = 'none', env = {} }: FleetOptions): Promise<Fleet> {
  const database = await createDatabase();
  const key = randomBytes(32).toString('hex');
  const carts = await Promise.all(
    Array.from({ length: instances }, () =>
      startCart({
        databaseUrl: database.url,
        env: { CONFIRMATIONS: 'off', REPLAY_CACHE: cache, REPLAY_CACHE_KEY: key, ...env },
      }),
    ),
  );
  const nginx: NginxServer = await startNginx({ instances: carts.map(({ url }) => url) });
  return {
    url: nginx.url,
    database,
    carts,
    events: async () => {
      const sums: Record<string, number> = {};
      for (const { url } of carts) {
        const counts = (await send(`${url}/demo/events`, { method: 'GET' })).json<Record<string, number>>();
        for (const [name, count] of Object.entries(counts)) sums[name] = (sums[name] ?? 0) + count;
      }
      return sums;
    },
    transactions: async () => {
      const [row] = await database.rows<{ count: number }>(
        `SELECT (xact_commit + xact_rollback)::int AS count FROM pg_stat_database WHERE datname = current_database()`,
      );
      return row?.count ?? 0;
    },
    close: async () => {
      await nginx.stop();
      await Promise.all(carts.map((cart) => cart.end()));
      await database.drop();
    },
  };
}
