import type pg from 'pg';
import type { ServerUnderTest } from '../services/server-under-test.js';
import { fresh, type Load, runSlice } from './slices.js';
import { type Size, sizeOf } from './tables.js';

/** What a record takes that the library wrote, on a table that autovacuum has been over several times while it grew. */
export interface RecordSize extends Size {
  /** The row alone, without key and body, and without what its page holds beside rows. */
  readonly rowBytesBesideKeyAndBody: number;
  /** Outcomes that touched no index. */
  readonly hotShare: number;
}

const WRITING_MS = 60_000;
/** A second of this table is like an hour of one that grows at the same rate for days. */
const LOOK_OFTEN = `ALTER SYSTEM SET autovacuum_naptime = '1s'`;
const LOOK_AS_BEFORE = 'ALTER SYSTEM RESET autovacuum_naptime';

const ROWS = `
SELECT avg(pg_column_size(record.*) - octet_length(key) - octet_length(response_body)) AS own
  FROM idempotency_keys AS record`;

/** Counters of a backend are told with a delay; the column is read when all have gone. */
const UPDATES = `
SELECT n_tup_upd AS updates, n_tup_hot_upd AS hot FROM pg_stat_user_tables WHERE relname = 'idempotency_keys'`;

/** Lets the library write for a minute. */
export async function measureRecordSize(
  load: Load,
  { server, look }: { server: ServerUnderTest; look: pg.Client },
): Promise<RecordSize> {
  await look.query(LOOK_OFTEN);
  await look.query('SELECT pg_reload_conf()');
  await runSlice(load, server, { keys: fresh(), expected: 201, concurrency: 16, durationMs: WRITING_MS });
  await look.query(LOOK_AS_BEFORE);
  await look.query('SELECT pg_reload_conf()');
  await server.stop();
  const { rows } = await look.query<{ own: string }>(ROWS);
  const updated = await look.query<{ updates: string; hot: string }>(UPDATES);
  return {
    ...(await sizeOf(look)),
    rowBytesBesideKeyAndBody: Number(rows[0]?.own),
    hotShare: Number(updated.rows[0]?.hot) / Number(updated.rows[0]?.updates),
  };
}
