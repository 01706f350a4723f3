import { KNOWN_FORMATS } from './record.js';
import { WAITS_FOR_STANDBY } from './replication.js';
import { quoteTable, stepsTable } from './table-name.js';

/**
 * Whether time can end a record. Not one that lease mode has not finished: what its handler did outside the database is not
 * undone by the passing of time. `record` is the alias with its dot, or nothing.
 */
const perishable = (record: string): string =>
  `(${record}status <> 'pending' OR ${record}lease_until IS NULL)`;

/** Whether a record is as good as absent. */
export const expired = (record: string): string =>
  `(${record}expires_at <= clock_timestamp() AND ${perishable(record)})`;

/** When the record began, in microseconds: tells the lives of a key apart, whose attempts are numbered anew. */
export const BORN = `(extract(epoch FROM created_at) * 1000000)::bigint`;

/** A time of the database's clock in milliseconds, as JavaScript counts them. */
const milliseconds = (time: string): string => `date_part('epoch', ${time}) * 1000`;

/** What time it is in the database: what a cache keeps is held to it. */
export const DATABASE_NOW = `${milliseconds('clock_timestamp()')} AS database_now_ms`;

/** When a record expires, for those who keep a copy of its outcome. */
export const expiresAt = (column: string): string => `${milliseconds(column)} AS expires_at_ms`;

/**
 * Bounds a transaction's time in statements. `transaction_timeout` exists since PostgreSQL 17; before, one statement is
 * bounded, by the application's own `statement_timeout` where that is shorter; a second later than the owner gives up
 * itself, which must not look like an error of its statement. `limit` is the parameter with the milliseconds.
 */
export const boundStatements = (serverVersion: number, limit: string): string =>
  serverVersion >= 170000
    ? `set_config('transaction_timeout', ${limit}::text, true)`
    : `set_config('statement_timeout',
         CASE WHEN current_setting('statement_timeout')::interval > interval '0'
               AND current_setting('statement_timeout')::interval < ${limit}::text::float8 * interval '1 millisecond'
              THEN current_setting('statement_timeout') ELSE least(${limit}::text::bigint + 1000, 2147483647)::text END, true)`;

/** Every statement of transaction mode, for one table, named as the `table` option has it. */
export function idempotencySql(name: string, serverVersion: number) {
  const table = quoteTable(name);
  const steps = quoteTable(stepsTable(name));
  const EXPIRED = expired('');
  /**
   * Makes the record, in a transaction of its own (BEGIN before it, COMMIT AND CHAIN behind it), so that it is visible to every other
   * instance before the handler runs.
   *
   * - `ON CONFLICT DO NOTHING` under the unique key: of any number of concurrent callers one inserts. None waits for more
   *   than a commit under way: that of such an insert, or of an outcome or a count that is written already. It never waits
   *   for a handler.
   * - `synchronous_commit = off`, for this statement's transaction only: WAL is written in order, so when the commit of
   *   the handler is durable this earlier one is too; when it is not, nothing happened.
   * - Nothing is concluded from its result: what follows decides.
   *
   * $1 key_hash, $2 namespace, $3 scope, $4 key, $5 operation, $6 fingerprint, $7 ttl in ms
   */
  const CLAIM = `
WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
INSERT INTO ${table} (key_hash, namespace, scope, key, operation, fingerprint, expires_at)
SELECT $1, $2, $3, $4, $5, $6, clock_timestamp() + $7::float8 * interval '1 millisecond' FROM quick
ON CONFLICT (key_hash) DO NOTHING`;

  /** Claims need READ COMMITTED: each statement must see what committed before it, whatever the default is. */
  const BEGIN = 'BEGIN ISOLATION LEVEL READ COMMITTED';

  /** Makes what CLAIM has written visible, and goes on in a transaction of the same kind with the settings of the session. */
  const COMMIT_AND_CHAIN = 'COMMIT AND CHAIN';

  /**
   * Server-side bounds of the attempt, set only when the row is ours, for this transaction only: a frozen owner cannot
   * hold its key, neither between two statements nor in one.
   */
  const BOUNDS = `set_config('idle_in_transaction_session_timeout', $3::text, true),
       ${boundStatements(serverVersion, '$3')}`;

  /**
   * Takes the row, when nobody holds it. Its lock is the proof that the owner is alive: PostgreSQL drops it with the
   * connection.
   *
   * - `pending`: claimed, or abandoned by an owner whose lock is gone. Not one that lease mode has left: what its handler
   *   did outside the database would be done again.
   * - `error` without an answer: released, a retry may run.
   * - expired: as good as absent.
   * - the fingerprint must be equal (unless expired): another payload never takes a key over, nor leaves the trace of a
   *   lock on its row.
   * - the format must be known: Fail closed, a record from a newer version is never run again.
   * - `begun`: whether an attempt was begun on this version of the row. Its lock leaves `xmax` behind, also when it
   *   died; `xmax = xmin` is the lock that RECLAIM itself held. So a counted attempt that nobody began yet is told
   *   from an abandoned one, without a clock and without another write. A row that was written while LOCK waited for it
   *   is looked at again when it is locked, and then `xmax` is our own. It hides whether an attempt began and died since: that one
   *   is not counted, and its number is given once more.
   * - SKIP LOCKED: a duplicate must not queue behind the handler with a connection of the pool in hand.
   *
   * $1 key_hash, $2 fingerprint, $3 maxRuntime in ms
   */
  const LOCKED = `
SELECT attempt, abandoned, status, ${EXPIRED} AS expired, ${BORN} AS born,
       NOT (xmax = 0 OR xmax = xmin OR xmax IS NOT DISTINCT FROM pg_current_xact_id_if_assigned()::xid) AS begun,
       ${expiresAt('expires_at')},
       ${BOUNDS}
  FROM ${table}
 WHERE key_hash = $1
   AND format IN (${KNOWN_FORMATS.join(', ')})
   AND (${EXPIRED}
        OR (fingerprint = $2
            AND ((status = 'pending' AND lease_until IS NULL)
                 OR (status = 'error' AND response_status IS NULL))))
   FOR UPDATE`;

  /**
   * What stands in the record, locked or not. Visible is not yet replicated: a commit whose wait for the standby was ended
   * is visible, and so is one that waited when the server crashed. `standby_awaited` asks for a wait of our own.
   * $1 key_hash, $2 fingerprint
   */
  const STORED = `r.fingerprint = $2 AS same, r.format, r.lease_until <= clock_timestamp() AS lease_over,
       r.response_status, r.response_headers, r.response_body,
       ${expiresAt('r.expires_at')}, ${DATABASE_NOW}, ${WAITS_FOR_STANDBY} AS standby_awaited`;

  /**
   * One look, which takes the row or tells what stands in it: LOCK with SKIP LOCKED beside READ. Where LOCK took none, its
   * columns are null.
   *
   * - what is locked is told by LOCK's own columns: where another transaction has written the row since the look began, it locks the
   *   new version, and READ still sees the old one.
   * - one statement, one snapshot: an owner that commits meanwhile is still in flight to it, as it was when the look began. A retry
   *   finds the outcome.
   * - `xid` is the transaction that holds the row, and that will have written its outcome (see SETTLED).
   *
   * $1 key_hash, $2 fingerprint, $3 maxRuntime in ms
   */
  const LOCK_OR_READ = `
SELECT l.attempt AS locked_attempt, l.abandoned AS locked_abandoned, l.status AS locked_status,
       l.expired AS locked_expired, l.expires_at_ms AS locked_expires_at_ms, l.born, l.begun,
       CASE WHEN l.attempt IS NOT NULL THEN pg_current_xact_id()::xid::text END AS xid, r.status, r.abandoned, ${expired('r.')} AS expired, ${STORED}
  FROM ${table} AS r
  LEFT JOIN (${LOCKED} SKIP LOCKED) AS l ON true
 WHERE r.key_hash = $1`;

  /**
   * LOCK, but queues for the row: a waiting duplicate is woken by the owner's commit, rollback or death. When the owner
   * completed, the WHERE no longer holds for the new version, no row comes back, and READ, a statement of its own, finds the
   * answer.
   */
  const LOCK_WAITING = LOCKED;

  /** Bounds LOCK_WAITING; 55P03 when it is over. Answers the value to put back before the handler runs. $1 in ms */
  const LIMIT_WAIT = `SELECT current_setting('lock_timeout') AS previous, set_config('lock_timeout', $1::text, true)`;
  const UNLIMIT_WAIT = `SELECT set_config('lock_timeout', $1::text, true), pg_current_xact_id()::xid::text AS xid`;

  /** What stands in the record now: its own snapshot under READ COMMITTED. $1 key_hash, $2 fingerprint */
  const READ = `
SELECT r.status, r.attempt, r.abandoned, ${expired('r.')} AS expired, ${STORED}
  FROM ${table} AS r
 WHERE r.key_hash = $1`;

  /**
   * READ for a duplicate of a finished request, in no transaction: it changes nothing and locks nothing. Not on a standby, where an erased
   * record may still stand: there it finds none, and the claim that follows is refused.
   */
  const LOOK = `${READ}
   AND NOT pg_is_in_recovery()`;

  /** What the handler does can be rolled back without letting the lock of the row go. */
  const SAVEPOINT = 'SAVEPOINT handler';
  const RELEASE_SAVEPOINT = 'RELEASE SAVEPOINT handler';
  const ROLLBACK_TO_SAVEPOINT = 'ROLLBACK TO SAVEPOINT handler';

  /**
   * Counts the next attempt, in a commit of its own before it begins, on a row that LOCK gave us and that was released,
   * abandoned or expired: a request that kills its process every time is counted every time. The lock ends with that
   * commit; whoever locks the row next begins the counted attempt (see `begun`).
   *
   * - fenced by `attempt`, which only grows.
   * - an expired record becomes a new one: its time starts again, it takes the new payload, and what an earlier life of
   *   the key has journaled is forgotten.
   * - a request that lease mode kept is forgotten: nobody calls the handler of this mode again without its client.
   *
   * $1 key_hash, $2 attempt as locked, $3 abandoned, $4 operation, $5 fingerprint, $6 ttl in ms
   */
  const RECLAIM = `
WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
     forgotten AS (
  DELETE FROM ${steps} AS s USING ${table} AS k
   WHERE s.key_hash = $1 AND k.key_hash = $1 AND k.expires_at <= clock_timestamp())
UPDATE ${table} AS r
   SET status = 'pending', attempt = r.attempt + 1, abandoned = $3, lease_until = NULL, request = NULL,
       operation = $4, fingerprint = $5, format = 1,
       response_status = NULL, response_headers = NULL, response_body = NULL, completed_at = NULL,
       created_at = CASE WHEN r.expires_at <= clock_timestamp() THEN clock_timestamp() ELSE r.created_at END,
       expires_at = CASE WHEN r.expires_at <= clock_timestamp()
                         THEN clock_timestamp() + $6::float8 * interval '1 millisecond' ELSE r.expires_at END
  FROM quick
 WHERE r.key_hash = $1 AND r.attempt = $2`;

  /**
   * The final outcome, committed together with the handler's rows, outside the handler's savepoint: inside it the row, locked by the
   * transaction, would be written by a subtransaction, and for two ids on one row PostgreSQL makes a multixact.
   *
   * - fenced: only the attempt that holds the row, only while it is pending.
   * - `1 / count(*)` fails the transaction when the fence let nothing through: COMMIT may be on the wire already, and
   *   must not commit the handler's rows without their record.
   * - no indexed column changes, so that the update stays on its page (HOT).
   *
   * $1 key_hash, $2 attempt, $3 status, $4 response_status, $5 response_headers, $6 response_body, $7 last_error, $8 format
   */
  const COMPLETE = `
WITH fenced AS (
  UPDATE ${table}
     SET status = $3, response_status = $4, response_headers = $5, response_body = $6, last_error = $7,
         format = $8, abandoned = 0, completed_at = clock_timestamp()
   WHERE key_hash = $1 AND attempt = $2 AND status = 'pending'
  RETURNING 1)
SELECT 1 / count(*) AS written FROM fenced`;

  /**
   * Gives the key back after a failure that left no effect.
   *
   * - fenced by `born` too: where the attempt has lost its lock, as with its connection, the record may have begun another life
   *   with an attempt of the same number. In lease mode no lock of that one's would be in the way.
   *
   * $1 key_hash, $2 attempt, $3 last_error, $4 born
   */
  const RELEASE = `
UPDATE ${table}
   SET status = 'error', last_error = $3, abandoned = 0
 WHERE key_hash = $1 AND attempt = $2 AND status = 'pending' AND ${BORN} = $4::bigint`;

  /**
   * Removes a record whose handler never began, so that the key works with a corrected body. Only a first attempt:
   * attempt numbers never start again for a key that something was begun under. $1 key_hash, $2 attempt
   */
  const FORGET = `DELETE FROM ${table} WHERE key_hash = $1 AND attempt = $2 AND attempt = 1 AND status = 'pending'`;

  const COMMIT = 'COMMIT';

  /**
   * Waits until no transaction holds the row and reads what it left: the question after a lost answer to COMMIT.
   *
   * - `born`: attempts are numbered anew when a record was deleted, and an expired record becomes another one. What another life
   *   of the key came to says nothing of this one.
   * - `written_by`: nor does what another transaction has written. An attempt that begins unseen, while LOCK waits with an older
   *   snapshot, has the number of the one before it (see `begun`).
   *
   * $1 key_hash
   */
  const SETTLED = `SELECT status, attempt, ${BORN} AS born, xmin::text AS written_by FROM ${table} WHERE key_hash = $1 FOR UPDATE`;

  /**
   * Deletes expired records, one statement a batch.
   *
   * - never one that lease mode has not finished: it waits for its next attempt, or for a person.
   * - the predicate stands in the statement that deletes: a record reclaimed in between is not expired any more.
   * - SKIP LOCKED: a record somebody holds is not touched, whatever its time says.
   * - statement_timestamp(), not clock_timestamp(): a stable value can use the index.
   * - the advisory lock lets one instance work at a time; it ends with the statement's transaction.
   *
   * $1 batch size, $2 advisory lock
   */
  const REAP = `
WITH turn AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($2::bigint) AS ours),
     doomed AS MATERIALIZED (
  SELECT key_hash FROM ${table}
   WHERE expires_at <= statement_timestamp()
     AND ${perishable('')}
     AND (SELECT ours FROM turn)
   ORDER BY expires_at
   LIMIT $1
   FOR UPDATE SKIP LOCKED)
DELETE FROM ${table} AS r
 USING doomed
 WHERE r.key_hash = doomed.key_hash AND r.expires_at <= statement_timestamp()
   AND ${perishable('r.')}`;

  return {
    CLAIM,
    BEGIN,
    COMMIT_AND_CHAIN,
    LOCK_OR_READ,
    LOCK_WAITING,
    LIMIT_WAIT,
    UNLIMIT_WAIT,
    READ,
    LOOK,
    SAVEPOINT,
    RELEASE_SAVEPOINT,
    ROLLBACK_TO_SAVEPOINT,
    RECLAIM,
    COMPLETE,
    RELEASE,
    FORGET,
    COMMIT,
    SETTLED,
    REAP,
  } as const;
}

export type IdempotencySql = ReturnType<typeof idempotencySql>;
