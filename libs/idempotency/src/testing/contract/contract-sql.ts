import { BORN } from '../../store/idempotency.sql.js';
import { quoteTable, stepsTable } from '../../store/table-name.js';

/** What cases look at and move from outside, past the store that they try. */
export function contractSql(name: string) {
  const table = quoteTable(name);
  const steps = quoteTable(stepsTable(name));

  /** $1 key_hash */
  const RECORD = `
SELECT status, attempt, abandoned, fingerprint, ${BORN} AS born, response_status AS "responseStatus",
       lease_until > clock_timestamp() AS leased,
       date_part('epoch', lease_until - clock_timestamp()) * 1000 AS "leaseMs",
       date_part('epoch', expires_at - clock_timestamp()) * 1000 AS "expiresInMs",
       date_part('epoch', expires_at) * 1000 AS "expiresAtMs"
  FROM ${table}
 WHERE key_hash = $1`;

  /** The record's bytes and those of its journal, with what a mere lock leaves behind on a row. $1 key_hash */
  const VERSION = `
SELECT r.xmin::text || ' ' || r.xmax::text || ' ' || r::text AS version FROM ${table} AS r WHERE key_hash = $1
 UNION ALL
(SELECT s::text FROM ${steps} AS s WHERE key_hash = $1 ORDER BY position)`;

  // Cases move the row, not the clock.
  /** So long ago that it is the first to be reaped. $1 key_hash */
  const EXPIRE = `UPDATE ${table} SET expires_at = timestamptz 'epoch' WHERE key_hash = $1`;
  /** $1 key_hash, $2 time in ms */
  const EXPIRE_IN = `
UPDATE ${table} SET expires_at = clock_timestamp() + $2::float8 * interval '1 millisecond' WHERE key_hash = $1`;
  /** $1 key_hash */
  const END_LEASE = `UPDATE ${table} SET lease_until = clock_timestamp() WHERE key_hash = $1`;

  /** $1 key_hashes */
  const REMOVE = `DELETE FROM ${table} WHERE key_hash = ANY ($1::bytea[])`;

  /** Who waits for the transaction of a backend. $1 its number */
  const WAITING = `SELECT FROM pg_locks WHERE NOT granted AND $1::int = ANY (pg_blocking_pids(pid))`;

  return { RECORD, VERSION, EXPIRE, EXPIRE_IN, END_LEASE, REMOVE, WAITING } as const;
}

export type ContractSql = ReturnType<typeof contractSql>;

/** The table of a handler's rows, for one case. Two rows of one key fail no INSERT, but the COMMIT. */
export function effectsSql(name: string) {
  const table = quoteTable(name);
  return {
    CREATE: `CREATE TABLE ${table} (key text NOT NULL UNIQUE DEFERRABLE INITIALLY DEFERRED)`,
    /** $1 key */
    WRITE: `INSERT INTO ${table} (key) VALUES ($1)`,
    COUNT: `SELECT count(*)::int AS count FROM ${table} WHERE key = $1`,
    DROP: `DROP TABLE ${table}`,
  } as const;
}
