import type { EntityManager } from 'typeorm';
import type PgBoss from 'pg-boss';
import pg from 'pg';

/** The queue's own connections: few, and apart from those that requests wait for. */
export function queuePool(databaseUrl: string, onError: (error: Error) => void): pg.Pool {
  const pool = new pg.Pool({
    connectionString: databaseUrl,
    max: 2,
    application_name: 'cart confirmations',
    connectionTimeoutMillis: 10_000,
    query_timeout: 30_000,
  });
  // An idle connection that breaks is replaced; without a listener it would end the process.
  pool.on('error', onError);
  return pool;
}

/** Lets pg-boss work on connections of `pool`. */
export function onPool(pool: pg.Pool): PgBoss.Db {
  return { executeSql: async (text, values) => pool.query(text, values) };
}

/** Lets a call of pg-boss run in the transaction that `manager` is in, or has joined. */
export function inTransactionOf(manager: EntityManager): PgBoss.Db {
  return { executeSql: async (text, values) => ({ rows: await manager.query<unknown[]>(text, values) }) };
}
