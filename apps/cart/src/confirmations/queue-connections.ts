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

/** Runs `work`, which may use the other connection of the pool, while no other instance does; the lock ends with ours. */
export async function oneAtATime(pool: pg.Pool, work: () => Promise<void>): Promise<void> {
  const client = await pool.connect();
  // While it is out of the pool nobody else listens, and its error would end the process.
  client.on('error', () => undefined);
  try {
    await client.query('SELECT pg_advisory_lock($1)', [SETUP_LOCK]);
    await work();
    await client.query('SELECT pg_advisory_unlock($1)', [SETUP_LOCK]);
    client.release();
  } catch (error) {
    // Closed, which lets the lock go as well.
    client.release(error instanceof Error ? error : true);
    throw error;
  }
}
