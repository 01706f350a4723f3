import { setTimeout as delay } from 'node:timers/promises';
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

/** Any number that no other advisory lock of this database uses. */
const SETUP_LOCK = 7_203_514_987;

/** How long to wait before the lock is asked for again. */
const SETUP_RETRY_MS = 100;

/**
 * Runs `work`, which may use the other connection of the pool, while no other instance does. The lock is that of a
 * transaction: behind a pooler of transactions there is no session that it could belong to. Who does not get it waits
 * without a transaction: `work` may need the pooler's last connection to PostgreSQL.
 */
export async function oneAtATime(pool: pg.Pool, work: () => Promise<void>): Promise<void> {
  while (!(await tryAlone(pool, work))) await delay(SETUP_RETRY_MS);
}

/** Whether the lock was free, and `work` is done. */
async function tryAlone(pool: pg.Pool, work: () => Promise<void>): Promise<boolean> {
  const client = await pool.connect();
  // While it is out of the pool nobody else listens, and its error would end the process.
  client.on('error', () => undefined);
  try {
    await client.query('BEGIN');
    const { rows } = await client.query<{ ours: boolean }>('SELECT pg_try_advisory_xact_lock($1) AS ours', [
      SETUP_LOCK,
    ]);
    const isOurs = rows[0]?.ours === true;
    if (isOurs) await work();
    await client.query('COMMIT');
    client.release();
    return isOurs;
  } catch (error) {
    // Closed, which lets the lock go as well.
    client.release(error instanceof Error ? error : true);
    throw error;
  }
}
