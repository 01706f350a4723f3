import { BORN, boundStatements, DATABASE_NOW, expired, expiresAt } from './idempotency.sql.js';
import { KNOWN_FORMATS } from './record.js';
import { quoteTable, stepsTable } from './table-name.js';

/** Every statement of lease mode, for one table, named as the `table` option has it. */
export function leaseSql(name: string, serverVersion: number) {
  const table = quoteTable(name);
  const steps = quoteTable(stepsTable(name));

  /**
   * Lets a write through only for the attempt that holds the record: the number tells it from the attempts before and
   * after, the record's beginning from those of another life of the key, the status from a decided outcome, and
   * `abandoned` from an attempt that was given up, whose renewal may still be on the wire. It stands in the WHERE of the very
   * statement that writes, so that nothing can come between question and write.
   *
   * $1 key_hash, $2 attempt, $3 born
   */
  const FENCE = `key_hash = $1 AND attempt = $2 AND ${BORN} = $3::bigint AND status = 'pending' AND abandoned >= 0`;

  const until = (parameter: string): string =>
    `clock_timestamp() + ${parameter}::float8 * interval '1 millisecond'`;

  /**
   * Takes the record, for a time: makes it, or takes one over that was released, expired, or whose lease is over. One
   * statement, durable when it is answered: what the handler does outside the database must not be forgotten.
   *
   * - FOR UPDATE SKIP LOCKED: a row that a phase, a heartbeat or another claim holds is somebody's; a duplicate does not
   *   queue behind it with a connection in hand. Rows that are not free are not locked at all.
   * - the conditions are looked at once more on the newest version of the row when it is locked: of any number of
   *   concurrent claims one finds them true.
   * - ON CONFLICT DO NOTHING under the unique key: of any number of concurrent first claims one inserts. It would wait for a
   *   transaction that is changing the row, as a phase before its COMMIT: a record that is there is not inserted at all.
   * - an abandoned record is taken over only where the route says so, and no more often than it says. One of transaction
   *   mode had no effect, and is taken over always.
   * - the number of the attempt only grows, whatever the record was before.
   * - an expired record becomes a new one: its time starts again, it takes the new payload, and its journal is forgotten.
   *   A resumed one keeps the request that it was made with.
   *
   * $1 key_hash, $2 namespace, $3 scope, $4 key, $5 operation, $6 fingerprint, $7 ttl in ms, $8 lease in ms,
   * $9 whether abandoned attempts are retried, $10 maxAttempts, $11 request
   */
  const CLAIM = `
WITH free AS MATERIALIZED (
  SELECT key_hash, ${expired('')} AS expired, status, abandoned
    FROM ${table}
   WHERE key_hash = $1
     AND format IN (${KNOWN_FORMATS.join(', ')})
     AND (${expired('')}
          OR (fingerprint = $6
              AND ((status = 'error' AND response_status IS NULL)
                   OR (status = 'pending'
                       AND (lease_until IS NULL
                            OR (lease_until <= clock_timestamp() AND $9::boolean AND abandoned + 1 < $10::int))))))
     FOR UPDATE SKIP LOCKED),
     taken AS (
  UPDATE ${table} AS r
     SET status = 'pending', attempt = r.attempt + 1, lease_until = ${until('$8')},
         abandoned = CASE WHEN free.expired OR free.status <> 'pending' THEN 0 ELSE free.abandoned + 1 END,
         operation = $5, fingerprint = $6, format = 1, completed_at = NULL,
         response_status = NULL, response_headers = NULL, response_body = NULL,
         request = CASE WHEN free.expired THEN $11 ELSE coalesce(r.request, $11) END,
         created_at = CASE WHEN free.expired THEN clock_timestamp() ELSE r.created_at END,
         expires_at = CASE WHEN free.expired THEN ${until('$7')} ELSE r.expires_at END
    FROM free
   WHERE r.key_hash = free.key_hash
  RETURNING r.attempt, r.created_at, free.expired, free.status = 'pending' AND NOT free.expired AS resumed),
     forgotten AS (
  DELETE FROM ${steps} WHERE key_hash = $1 AND (SELECT expired FROM taken)),
     made AS (
  INSERT INTO ${table} (key_hash, namespace, scope, key, operation, fingerprint, expires_at, lease_until, request)
  SELECT $1, $2, $3, $4, $5, $6, ${until('$7')}, ${until('$8')}, $11
   WHERE NOT EXISTS (SELECT FROM ${table} WHERE key_hash = $1)
  ON CONFLICT (key_hash) DO NOTHING
  RETURNING attempt, created_at)
SELECT attempt, ${BORN} AS born, resumed FROM taken
 UNION ALL
SELECT attempt, ${BORN} AS born, false FROM made`;

  /**
   * Whether a record whose lease is over is somebody's all the same: a phase renews its lease with its commit only, and a
   * claim may be about to take it. FOR SHARE: of any number who ask, none takes another one for the holder. No row: it
   * is held, or was until now. $1 key_hash
   */
  const UNHELD = `
SELECT FROM ${table}
 WHERE key_hash = $1 AND status = 'pending' AND lease_until <= clock_timestamp()
   FOR SHARE SKIP LOCKED`;

  /** What the attempts before have journaled. Nobody else writes it while the claim holds. $1 key_hash */
  const JOURNAL = `
SELECT name, position, kind, attempt, raised, content_type, body FROM ${steps} WHERE key_hash = $1 ORDER BY position`;

  /**
   * The heartbeat. A lease that is over but that nobody took is taken up again. It may be lost with the server's memory:
   * then the lease ends early, which it may at any time. $4 lease in ms
   */
  const RENEW = `
WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
UPDATE ${table} SET lease_until = ${until('$4')} FROM quick WHERE ${FENCE}`;

  /**
   * Journals what a step has done, and renews the lease. The row of the record is locked by its update before the entry is
   * written: a takeover comes before both or after both. An entry that is there already is this attempt's own, from
   * a first try whose answer was lost.
   *
   * $4 lease in ms, $5 name, $6 position, $7 kind, $8 raised, $9 content_type, $10 body
   */
  const JOURNAL_ENTRY = `
WITH fenced AS (
  UPDATE ${table} SET lease_until = ${until('$4')} WHERE ${FENCE}
  RETURNING key_hash, attempt),
     written AS (
  INSERT INTO ${steps} (key_hash, attempt, name, position, kind, raised, content_type, body)
  SELECT key_hash, attempt, $5, $6, $7, $8, $9, $10 FROM fenced
  ON CONFLICT (key_hash, name) DO NOTHING
  RETURNING name)`;
  const JOURNAL_STEP = `${JOURNAL_ENTRY}
SELECT count(*)::int AS fenced FROM fenced`;

  /**
   * Journals a phase in the transaction of its rows. `1 / count(*)` fails it when nothing was written: COMMIT may be on the
   * wire already, and must not commit the rows of an attempt that is not the record's any more, nor those of a phase that
   * is done.
   */
  const JOURNAL_PHASE = `${JOURNAL_ENTRY}
SELECT 1 / count(*) AS written FROM written`;

  const BEGIN = 'BEGIN ISOLATION LEVEL READ COMMITTED';

  /**
   * Begins a phase: as long as it lasts, the lock of the row is the proof that its owner is alive, as in transaction mode.
   * A stale attempt is refused before its phase has done anything.
   *
   * The server bounds it: a frozen owner, which sends no statement for $4 ms, loses its phase, and a phase whose statements take for ever is ended at $5, the attempt's maxRuntime in ms.
   */
  const PHASE = `
SELECT set_config('idle_in_transaction_session_timeout', $4::text, true),
       ${boundStatements(serverVersion, '$5')}
  FROM ${table}
 WHERE ${FENCE}
   FOR NO KEY UPDATE`;

  /**
   * What became of a phase after the answer to its COMMIT was lost: waits until no transaction holds the row, then looks.
   * The lock was taken before the phase began, so there is no moment in which it could still be to come. $1 key_hash
   */
  const PHASE_OVER = `SELECT FROM ${table} WHERE key_hash = $1 FOR UPDATE`;
  /** $1 key_hash, $2 name, $3 attempt */
  const PHASE_FOUND = `SELECT FROM ${steps} WHERE key_hash = $1 AND name = $2 AND attempt = $3`;

  /**
   * The final outcome. Sent again after a lost answer it finds its own first try, and writes nothing. Its time is counted from
   * here: a record that was finished late, by a later attempt, must not be expired at once and its key run again.
   *
   * $4 status, $5 format, $6 response_status, $7 response_headers, $8 response_body, $9 last_error, $10 ttl in ms
   */
  const COMPLETE = `
UPDATE ${table}
   SET status = $4, format = $5, response_status = $6, response_headers = $7, response_body = $8, last_error = $9,
       abandoned = 0, lease_until = NULL, request = NULL, completed_at = clock_timestamp(), expires_at = ${until('$10')}
 WHERE ${FENCE}
RETURNING ${expiresAt('expires_at')}, ${DATABASE_NOW}`;

  /** Gives the key back after a failure that left nothing behind. $4 last_error */
  const RELEASE = `
UPDATE ${table}
   SET status = 'error', last_error = $4, abandoned = 0, lease_until = NULL, request = NULL
 WHERE ${FENCE}`;

  /**
   * Ends the attempt and leaves the record as it stands, because something of it has happened: it goes on with the next
   * attempt, or waits for a person. Minus one, so that the takeover, which counts one up, does not count a death.
   * $4 last_error
   */
  const ABANDON = `
UPDATE ${table} SET lease_until = clock_timestamp(), last_error = $4, abandoned = -1 WHERE ${FENCE}`;

  /** Removes a record whose handler never began, so that the key works with a corrected body. */
  const FORGET = `DELETE FROM ${table} WHERE ${FENCE} AND attempt = 1`;

  /**
   * Whether a write that the fence has stopped was this attempt's own first try, whose answer was lost: the record still has
   * its number, which every takeover and every decision of a person counts up. $1 key_hash, $2 attempt, $3 born
   */
  const WRITTEN = `SELECT FROM ${table} WHERE key_hash = $1 AND attempt = $2 AND ${BORN} = $3::bigint`;

  /**
   * Abandoned records to finish without their clients: those whose request is kept. Each failed attempt doubles the time
   * until the next one, up to an hour. $1 namespace, $2 grace in ms, $3 after lease_until, $4 after key_hash, $5 limit
   */
  const ABANDONED = `
SELECT key_hash, scope, key, operation, fingerprint, abandoned, request, lease_until::text AS since
  FROM ${table}
 WHERE lease_until <= clock_timestamp() - $2::float8 * interval '1 millisecond'
   AND lease_until <= clock_timestamp()
                      - least($2::float8 * power(2, least(attempt - 1, 20)), greatest($2::float8, 3600000)) * interval '1 millisecond'
   AND ($3::text IS NULL OR (lease_until, key_hash) > ($3::timestamptz, $4::bytea))
   AND status = 'pending' AND request IS NOT NULL AND namespace = $1
   AND format IN (${KNOWN_FORMATS.join(', ')})
 ORDER BY lease_until, key_hash
 LIMIT $5`;

  return {
    CLAIM,
    UNHELD,
    JOURNAL,
    RENEW,
    JOURNAL_STEP,
    JOURNAL_PHASE,
    BEGIN,
    PHASE,
    PHASE_OVER,
    PHASE_FOUND,
    COMPLETE,
    RELEASE,
    ABANDON,
    FORGET,
    WRITTEN,
    ABANDONED,
  } as const;
}

export type LeaseSql = ReturnType<typeof leaseSql>;
