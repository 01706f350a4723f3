import pg from 'pg';
import { SCHEMA } from '../server/orders.js';
import { KEY_HASH_SQL } from './key-hash.js';

/** Table and indexes, in bytes for each record. */
export interface Size {
  readonly records: number;
  readonly tableBytes: number;
  /** Without the key and the stored body, which the client and the handler decide about. */
  readonly tableBytesBesideKeyAndBody: number;
  readonly indexBytes: number;
}

/**
 * Records like the one of `${prefix}-template`, under the keys `${prefix}-0` to `${prefix}-(count - 1)`, that expire in the order in
 * which they were written. $1 prefix, $2 first, $3 last
 */
const FILL = `
INSERT INTO idempotency_keys (key_hash, namespace, scope, key, operation, fingerprint, status, attempt, abandoned, format,
  response_status, response_headers, response_body, created_at, completed_at, expires_at)
SELECT ${KEY_HASH_SQL('namespace', 'scope', "$1 || '-' || n")}, namespace, scope, $1 || '-' || n, operation, fingerprint, status, attempt, abandoned, format,
       response_status, response_headers, response_body, created_at, completed_at, expires_at + n * interval '1 millisecond'
  FROM idempotency_keys AS template, generate_series($2::int, $3::int) AS n
 WHERE template.key = $1 || '-template'`;

const FILLED_AT_ONCE = 250_000;

/** A database of its own, with a connection to look at it. */
export async function createDatabase(
  serverUrl: string,
  name: string,
): Promise<{ url: string; look: pg.Client }> {
  const admin = new pg.Client({ connectionString: serverUrl });
  await admin.connect();
  await admin.query(`CREATE DATABASE ${pg.escapeIdentifier(name)}`);
  await admin.end();
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  const look = new pg.Client({ connectionString: url.href });
  await look.connect();
  await look.query(SCHEMA);
  return { url: url.href, look };
}

/** Needs the record of `${prefix}-template`. */
export async function fill(look: pg.Client, prefix: string, count: number): Promise<void> {
  for (let first = 0; first < count; first += FILLED_AT_ONCE) {
    await look.query(FILL, [prefix, first, Math.min(first + FILLED_AT_ONCE, count) - 1]);
  }
  await look.query('VACUUM ANALYZE idempotency_keys');
  await look.query('CHECKPOINT');
}

/** Lets the oldest `count` records be over. */
export async function expireOldest(look: pg.Client, count: number): Promise<void> {
  await look.query(
    `UPDATE idempotency_keys SET expires_at = clock_timestamp() - interval '1 hour'
      WHERE key_hash IN (SELECT key_hash FROM idempotency_keys ORDER BY expires_at LIMIT $1)`,
    [count],
  );
  await look.query('VACUUM ANALYZE idempotency_keys');
  await look.query('CHECKPOINT');
}

export async function expiredCount(look: pg.Client): Promise<number> {
  const { rows } = await look.query<{ count: string }>(
    'SELECT count(*) AS count FROM idempotency_keys WHERE expires_at <= clock_timestamp()',
  );
  return Number(rows[0]?.count);
}

export async function sizeOf(look: pg.Client): Promise<Size> {
  const { rows } = await look.query<Record<'records' | 'table' | 'own' | 'indexes', string>>(`
SELECT count(*) AS records, pg_table_size('idempotency_keys') AS table, pg_indexes_size('idempotency_keys') AS indexes,
       coalesce(sum(octet_length(key) + octet_length(response_body)), 0) AS own
  FROM idempotency_keys`);
  const [row] = rows;
  const records = Number(row?.records);
  const tableBytes = Number(row?.table) / records;
  return {
    records,
    tableBytes,
    tableBytesBesideKeyAndBody: tableBytes - Number(row?.own) / records,
    indexBytes: Number(row?.indexes) / records,
  };
}
