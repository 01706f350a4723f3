import { BORN } from './idempotency.sql.js';
import { KNOWN_FORMATS } from './record.js';
import { auditTable, quoteTable, stepsTable } from './table-name.js';

/**
 * What a record is to a person. `held` says whether a transaction holds its row: the proof that an attempt of transaction
 * mode, or a phase of lease mode, is running.
 */
const state = (held: string): string => `
  CASE WHEN response_status IS NOT NULL THEN status
       WHEN status = 'error' THEN 'released'
       WHEN lease_until > statement_timestamp() OR ${held} THEN 'in-flight'
       ELSE 'abandoned' END`;

/**
 * A record that nobody runs again never expires; once it is decided it does. It gets the time again that it had, so that
 * the client's next retry still finds the decision.
 */
const KEPT = `
  CASE WHEN expires_at <= clock_timestamp() THEN clock_timestamp() + (expires_at - created_at) ELSE expires_at END`;

/** Every statement of people's decisions, for one table, named as the `table` option has it. */
export function adminSql(name: string) {
  const table = quoteTable(name);
  const steps = quoteTable(stepsTable(name));
  const audit = quoteTable(auditTable(name));

  /**
   * The transactions that run. Whoever looks must not lock a row to find out: the lock would leave a trace that counts as
   * an attempt, and a duplicate would take it for an owner.
   */
  const HELD = `
WITH held AS MATERIALIZED (
  SELECT transactionid FROM pg_locks WHERE locktype = 'transactionid' AND granted)`;
  const STATE_SEEN = state('xmax IN (SELECT transactionid FROM held)');
  const SUMMARY = `
       encode(key_hash, 'hex') AS "keyHash", namespace, scope, key, operation, ${STATE_SEEN} AS state, attempt,
       created_at AS "createdAt", completed_at AS "completedAt", expires_at AS "expiresAt",
       lease_until AS "leaseUntil", response_status AS "responseStatus", last_error AS "lastError"`;

  /**
   * A page of records in the order in which they expire, which an index has. What it says may be over when it is read: every
   * decision looks again, with the row in its hand.
   *
   * $1 namespace, $2 scope, $3 operation, $4 state, $5 after expires_at in microseconds, $6 after key_hash, $7 limit
   */
  const LIST = `${HELD}
SELECT (extract(epoch FROM expires_at) * 1000000)::bigint AS place, ${SUMMARY}
  FROM ${table}
 WHERE namespace = $1
   AND ($2::text IS NULL OR scope = $2)
   AND ($3::text IS NULL OR operation = $3)
   AND ($4::text IS NULL OR ${STATE_SEEN} = $4)
   AND ($5::bigint IS NULL
        OR (expires_at, key_hash) > (timestamptz 'epoch' + $5::bigint * interval '1 microsecond', $6::bytea))
 ORDER BY expires_at, key_hash
 LIMIT $7`;

  /** Record, journal and trail belong to one moment: a decision in between would tear them apart. */
  const LOOK = 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY';
  /** $1 key_hash */
  const RECORD = `${HELD}
SELECT ${SUMMARY}, format, response_headers, response_body FROM ${table} WHERE key_hash = $1`;
  /** $1 key_hash */
  const JOURNAL = `
SELECT name, kind, position, attempt, raised, created_at AS "createdAt", content_type, body
  FROM ${steps} WHERE key_hash = $1 ORDER BY position`;
  /** $1 key_hash */
  const TRAIL = `
SELECT action, attempt, status AS state, actor, reason, decided_at AS "decidedAt"
  FROM ${audit} WHERE key_hash = $1 ORDER BY id`;

  /** Which life of the key it is, for its downstream keys. $1 key_hash */
  const LIFE = `SELECT ${BORN} AS born FROM ${table} WHERE key_hash = $1`;

  /** READ COMMITTED, whatever the default is: LOCK and FIND must each see what was committed before them. */
  const BEGIN = 'BEGIN ISOLATION LEVEL READ COMMITTED';

  /**
   * Takes a record that may be decided; every other one is not locked at all, so that a refusal leaves no trace.
   *
   * - SKIP LOCKED: whoever holds the row runs, and is neither waited for nor disturbed. Of two decisions at once one gets
   *   the row.
   * - the state is looked at once more on the newest version of the row when it is locked: a heartbeat or a takeover that
   *   came in between makes it false.
   * - the format must be known: Fail closed, a record from a newer version is not for this one to decide.
   *
   * $1 key_hash, $2 states
   */
  const LOCK = `
SELECT attempt, operation, ${state('false')} AS state
  FROM ${table}
 WHERE key_hash = $1 AND format IN (${KNOWN_FORMATS.join(', ')}) AND ${state('false')} = ANY ($2::text[])
   FOR UPDATE SKIP LOCKED`;

  /** Why LOCK did not get it. $1 key_hash */
  const FIND = `${HELD}
SELECT ${STATE_SEEN} AS state, format FROM ${table} WHERE key_hash = $1`;

  // All below write a row that LOCK holds. $1 key_hash

  /**
   * Stores the answer that a person gave, for the time again that the record had: the client's next retry still finds it. The
   * attempt is counted up: of an attempt that is still at it, which the lease could not stop, every fenced write touches
   * nothing from here on.
   *
   * $2 format, $3 response_status, $4 response_headers, $5 response_body
   */
  const COMPLETE = `
UPDATE ${table}
   SET status = 'completed', attempt = attempt + 1, format = $2, response_status = $3, response_headers = $4,
       response_body = $5, abandoned = 0, lease_until = NULL, request = NULL, completed_at = clock_timestamp(),
       expires_at = greatest(expires_at, clock_timestamp() + (expires_at - created_at))
 WHERE key_hash = $1`;

  /** Gives the key back; the next attempt goes on from the journal. Counted up, as in COMPLETE. */
  const RELEASE = `
UPDATE ${table}
   SET status = 'error', attempt = attempt + 1, abandoned = 0, lease_until = NULL, request = NULL, expires_at = ${KEPT}
 WHERE key_hash = $1`;

  /**
   * Gives the key back as if nothing had been done under it: the record begins anew, which makes other downstream keys, and
   * keeps an attempt of its earlier life behind the fence.
   */
  const RESTART = `
UPDATE ${table}
   SET status = 'error', attempt = attempt + 1, abandoned = 0, lease_until = NULL, request = NULL, created_at = clock_timestamp(),
       expires_at = clock_timestamp() + (expires_at - created_at)
 WHERE key_hash = $1`;
  const FORGET_JOURNAL = `DELETE FROM ${steps} WHERE key_hash = $1`;

  /**
   * Leaves of a final record what keeps its effect from happening again. The attempt stays: no write of its passes the
   * fence any more, and one whose answer to COMMIT was lost must still find that it had been committed.
   */
  const ERASE = `
UPDATE ${table}
   SET scope = '', key = 'erased', format = 1, response_headers = NULL, response_body = NULL, last_error = NULL, request = NULL
 WHERE key_hash = $1`;

  /** Removes a released record, unless something of it is done: a retry would do that again, with nothing to go on from. */
  const REMOVE = `
DELETE FROM ${table} WHERE key_hash = $1 AND NOT EXISTS (SELECT FROM ${steps} WHERE key_hash = $1)`;

  /** In the transaction of the decision: neither without the other. $2 action, $3 attempt, $4 status, $5 actor, $6 reason */
  const AUDIT = `
INSERT INTO ${audit} (key_hash, action, attempt, status, actor, reason) VALUES ($1, $2, $3, $4, $5, $6)`;

  return {
    LIST,
    LOOK,
    RECORD,
    JOURNAL,
    TRAIL,
    LIFE,
    BEGIN,
    LOCK,
    FIND,
    COMPLETE,
    RELEASE,
    RESTART,
    FORGET_JOURNAL,
    ERASE,
    REMOVE,
    AUDIT,
  } as const;
}

export type AdminSql = ReturnType<typeof adminSql>;
