import type { QueryResult, QueryResultRow } from 'pg';
import type { BatchAnswer } from './batch.js';
import { commit, type CommitResult, committed, flush } from './commit.js';
import { DatabaseClock } from './database-clock.js';
import type { AttemptIdentity } from './identity.js';
import { idempotencySql, type IdempotencySql } from './idempotency.sql.js';
import { isNotKept } from './prepared-statements.js';
import { KNOWN_FORMATS, type StoredResponse } from './record.js';
import { ResponseCodec, type Sealing } from './response-columns.js';
import { awaitStandby, unlessUnreplicated } from './replication.js';
import { openSession, type ConnectionSource, type Session, type Statement } from './session.js';
import { LOCK_NOT_AVAILABLE, sqlStateOf } from './sql-state.js';

/** A row that LOCK gave us: nobody else can begin an attempt on it until this transaction ends. */
export interface LockedRecord {
  readonly attempt: number;
  readonly abandoned: number;
  readonly status: 'pending' | 'completed' | 'error';
  readonly expired: boolean;
  /** An attempt was begun on this version of the row: it is abandoned, unless the row was released. */
  readonly begun: boolean;
  /** When the record began, in microseconds. */
  readonly born: string;
  /** The transaction that holds it. */
  readonly xid: string;
  /** When it expires by the database's clock, in milliseconds since 1970. */
  readonly expiresAtMs: number;
}

/** What READ found. */
export type ReadRecord =
  | { readonly state: 'absent' }
  /** Written by a newer version of the library, or encrypted with a key that is not at hand. */
  | { readonly state: 'unreadable'; readonly cause: Error }
  /** Recorded under another fingerprint. */
  | { readonly state: 'reused' }
  /** Held by its owner, or about to be deleted. */
  | { readonly state: 'in-flight' }
  /** Left by lease mode: its lease is over, `abandoned` attempts before it died in a row. */
  | { readonly state: 'unowned'; readonly abandoned: number }
  /** Free to run again. */
  | { readonly state: 'released' }
  /** `raised`: the handler threw it (`status` is `error`). */
  | {
      readonly state: 'final';
      readonly raised: boolean;
      readonly response: StoredResponse;
      /** By the database's clock, in milliseconds since 1970. */
      readonly expiresAtMs: number;
    };

/** What a claim came to. On `'locked'` the session's transaction is open, at the savepoint, and holds the row. */
export type ClaimResult =
  | { readonly kind: 'locked'; readonly record: LockedRecord }
  | { readonly kind: 'not-locked'; readonly record: ReadRecord }
  /** The row stayed locked for the whole wait; the transaction has failed and must be rolled back. */
  | { readonly kind: 'wait-over' };

interface SettledRow extends QueryResultRow {
  readonly status: string;
  readonly attempt: number;
  readonly born: string;
  readonly written_by: string;
}

interface ReadRow extends QueryResultRow {
  status: string;
  abandoned: number;
  same: boolean;
  expired: boolean;
  /** Nobody holds it by a lease any more; `null` without one. */
  lease_over: boolean | null;
  /** A final outcome that is to be answered only when the standbys have it. */
  standby_awaited: boolean;
  format: number;
  response_status: number | null;
  response_headers: Record<string, string> | null;
  response_body: Buffer | null;
  expires_at_ms: number;
  database_now_ms: number;
}

/** An attempt that left no effect, and why. */
interface ReleasedAttempt {
  readonly keyHash: Buffer;
  readonly attempt: number;
  /** When its record began, in microseconds. */
  readonly born: string;
  readonly error: unknown;
}

/** LOCK_OR_READ: what LOCK found, if it took the row, beside what READ did. */
interface LookRow extends ReadRow {
  locked_attempt: number | null;
  locked_abandoned: number;
  locked_status: LockedRecord['status'];
  locked_expired: boolean;
  locked_expires_at_ms: number;
  born: string;
  begun: boolean;
  xid: string;
}

/** What LOCK tells of the row that it took. */
interface LockRow extends Omit<LockedRecord, 'expiresAtMs'> {
  readonly expires_at_ms: number;
}

/** What COMPLETE and RELEASE keep of an error, for operators. */
const LAST_ERROR_LENGTH = 500;

/**
 * The records in PostgreSQL. A claim is one message, and so is what ends an attempt. The statements of the others travel together
 * with `pipeline: true` on the pool, without it one after another, with the same meaning.
 *
 * It decides nothing: what a locked or read record means for the request is the engine's to say.
 */
export class IdempotencyStore {
  readonly sql: IdempotencySql;
  readonly responses: ResponseCodec;
  /** As far as it is known from what the statements below have answered. */
  readonly clock = new DatabaseClock();

  constructor(
    readonly table: string,
    readonly source: ConnectionSource,
    readonly serverVersion: number,
    readonly sealing?: Sealing,
  ) {
    this.sql = idempotencySql(table, serverVersion);
    this.responses = new ResponseCodec(sealing);
  }

  open(timeoutMs: number): Promise<Session> {
    return openSession(this.source, timeoutMs);
  }

  /**
   * CLAIM in a transaction of its own, then in another one LOCK, READ and SAVEPOINT. With `waitMs` LOCK queues for the row for that long.
   *
   * @throws the error of the first statement that failed; the session then needs a rollback.
   */
  async claim(
    session: Session,
    identity: AttemptIdentity,
    { ttlMs, maxRuntimeMs, waitMs }: { ttlMs: number; maxRuntimeMs: number; waitMs?: number },
  ): Promise<ClaimResult> {
    const { sql } = this;
    const { keyHash, namespace, scope, key, operation, fingerprint } = identity;
    const claim: Statement[] = [
      { text: sql.BEGIN },
      { text: sql.CLAIM, values: [keyHash, namespace, scope, key, operation, fingerprint, ttlMs] },
      { text: sql.COMMIT_AND_CHAIN },
    ];
    const lockValues = [keyHash, fingerprint, maxRuntimeMs];
    const askedAt = performance.now();
    if (waitMs === undefined) {
      const look = { text: sql.LOCK_OR_READ, values: lockValues };
      const answers = await this.#prepared(session, [...claim, look, { text: sql.SAVEPOINT }]);
      const row = answers.at(-2)?.rows[0] as LookRow | undefined;
      if (row && row.locked_attempt !== null) return this.#locked(lockedPartOf(row), row, askedAt);
      const record = await this.found(session, keyHash, row, { askedAt, inTransaction: true });
      return { kind: 'not-locked', record };
    }
    try {
      const answers = await this.#prepared(session, [
        ...claim,
        { text: sql.LIMIT_WAIT, values: [Math.max(1, Math.ceil(waitMs))] },
        { text: sql.LOCK_WAITING, values: lockValues },
        { text: sql.READ, values: [keyHash, fingerprint] },
        { text: sql.SAVEPOINT },
      ]);
      const [limit, locked, read] = answers.slice(3, 6).map(({ rows }) => rows[0]);
      if (!locked) {
        const record = await this.found(session, keyHash, read, { askedAt, inTransaction: true });
        return { kind: 'not-locked', record };
      }
      const { rows } = await session.query<{ xid: string }>({
        text: sql.UNLIMIT_WAIT,
        values: [limit?.['previous']],
      });
      const row = { ...locked, xid: rows[0]?.xid } as unknown as LockRow;
      return this.#locked(row, read as unknown as ReadRow, askedAt);
    } catch (error) {
      if (sqlStateOf(error) === LOCK_NOT_AVAILABLE) return { kind: 'wait-over' };
      throw error;
    }
  }

  /** What stands in the record, for a request that has reason to think that it is final. Outside a transaction. */
  async look(session: Session, { keyHash, fingerprint }: AttemptIdentity): Promise<ReadRecord> {
    const askedAt = performance.now();
    const look = [{ text: this.sql.LOOK, values: [keyHash, fingerprint] }];
    const [answer] = await this.#prepared(session, look);
    return this.found(session, keyHash, answer?.rows[0], { askedAt });
  }

  #locked(row: LockRow, read: ReadRow, askedAt: number): ClaimResult {
    this.clock.observe(read.database_now_ms, askedAt);
    const { expires_at_ms: expiresAtMs, attempt, abandoned, status, expired, begun, born, xid } = row;
    const record = { attempt, abandoned, status, expired, begun, born, xid, expiresAtMs };
    return { kind: 'locked', record };
  }

  /** A batch that begins outside a transaction, once more where what it was to find prepared is gone. */
  async #prepared(session: Session, statements: readonly Statement[]): Promise<readonly BatchAnswer[]> {
    try {
      return await session.batch(statements);
    } catch (error) {
      // By now nothing is prepared any more. What of the batch has run may run again: CLAIM, which then finds its record.
      if (!isNotKept(error)) throw error;
      await session.query({ text: 'ROLLBACK' });
      return session.batch(statements);
    }
  }

  /** Counts the next attempt on a locked row and lets the lock go with the commit. */
  async reclaim(
    session: Session,
    identity: AttemptIdentity,
    { attempt, abandoned, ttlMs }: { attempt: number; abandoned: number; ttlMs: number },
  ): Promise<void> {
    const { sql } = this;
    const { keyHash, operation, fingerprint } = identity;
    // The savepoint first: inside it the row's new version would carry a subtransaction's id, and its lock would look
    // like that of an attempt that had begun.
    const result = await commit(
      session,
      [
        { text: sql.RELEASE_SAVEPOINT },
        { text: sql.RECLAIM, values: [keyHash, attempt, abandoned, operation, fingerprint, ttlMs] },
      ],
      sql.COMMIT,
    );
    if (result.kind !== 'committed') throw result.cause;
    if (result.answers[1]?.rowCount !== 1) throw new StaleAttemptError(attempt);
  }

  /** Rolls back what the handler has written, for another run of it in the same attempt. */
  async undoHandler(session: Session): Promise<void> {
    await session.query({ text: this.sql.ROLLBACK_TO_SAVEPOINT });
  }

  /** COMPLETE and COMMIT; a final error first rolls the handler's rows back. */
  complete(session: Session, outcome: CompletedAttempt): Promise<CommitResult> {
    const { sql } = this;
    const { keyHash, attempt, status, response, error } = outcome;
    const { format, headers, body, ...answer } = this.responses.encode(keyHash, response);
    const lastError = error === undefined ? null : describeError(error);
    const complete: Statement = {
      text: sql.COMPLETE,
      values: [keyHash, attempt, status, answer.status, headers, body, lastError, format],
    };
    const before = [{ text: sql.RELEASE_SAVEPOINT }, complete];
    if (status === 'error') before.unshift({ text: sql.ROLLBACK_TO_SAVEPOINT });
    return unlessUnreplicated(session, () => commit(session, before, sql.COMMIT, outcome));
  }

  /** Rolls the handler's rows back and gives the key back; the record goes when its handler never `began`. */
  async release(
    session: Session,
    { keyHash, attempt, born, error, began }: ReleasedAttempt & { readonly began: boolean },
  ): Promise<CommitResult> {
    const { sql } = this;
    const statement: Statement =
      !began && attempt === 1
        ? { text: sql.FORGET, values: [keyHash, attempt] }
        : { text: sql.RELEASE, values: [keyHash, attempt, describeError(error), born] };
    const before = [{ text: sql.ROLLBACK_TO_SAVEPOINT }, { text: sql.RELEASE_SAVEPOINT }, statement];
    return commit(session, before, sql.COMMIT);
  }

  /** Gives the key back for an attempt whose own connection is gone. Waits at most `waitMs` for its backend to end. */
  async giveBack(
    session: Session,
    { keyHash, attempt, born, error, waitMs }: ReleasedAttempt & { readonly waitMs: number },
  ): Promise<void> {
    const { sql } = this;
    committed(
      await flush(session, [
        { text: sql.BEGIN },
        { text: sql.LIMIT_WAIT, values: [waitMs] },
        { text: sql.RELEASE, values: [keyHash, attempt, describeError(error), born] },
        { text: sql.COMMIT },
      ]),
    );
  }

  /**
   * What became of `attempt` after the answer to its COMMIT was lost. Waits at most `waitMs` for the old transaction
   * to end, and as long for the standbys to have what it has committed. `'gone'`: the record was deleted meanwhile, has
   * begun another life, or tells of another transaction under the same number, and with it went the only witness.
   *
   * @throws {NotReplicatedError} when it was committed here, and a failover may take it back.
   */
  async settled(
    session: Session,
    { keyHash, attempt, born, xid }: { keyHash: Buffer; attempt: number; born: string; xid: string },
    waitMs: number,
  ): Promise<'committed' | 'rolled-back' | 'gone'> {
    const { sql } = this;
    const results = await flush(session, [
      { text: sql.BEGIN },
      { text: sql.LIMIT_WAIT, values: [waitMs] },
      { text: sql.SETTLED, values: [keyHash] },
      { text: 'ROLLBACK' },
    ]);
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
    const { rows } = (results[2] as PromiseFulfilledResult<QueryResult<SettledRow>>).value;
    const [row] = rows;
    // Fail closed: another life's outcome is not this one's, whatever its number.
    if (!row || row.born !== born) return 'gone';
    if (row.attempt !== attempt || row.status === 'pending') return 'rolled-back';
    if (row.written_by !== xid) return 'gone';
    await awaitStandby(session, { waitMs });
    return 'committed';
  }

  /**
   * The same as {@link describe}, for an answer: a final outcome is one when it stands on the synchronous standbys, too.
   *
   * @throws {NotReplicatedError} when it does not in time.
   */
  async found(
    session: Session,
    keyHash: Buffer,
    row: object | undefined,
    { askedAt, inTransaction = false }: { readonly askedAt: number; readonly inTransaction?: boolean },
  ): Promise<ReadRecord> {
    const record = this.describe(keyHash, row, askedAt);
    if (record.state === 'final' && (row as ReadRow).standby_awaited) {
      await awaitStandby(session, { inTransaction });
    }
    return record;
  }

  /** What a row of READ says, which was asked for at `askedAt` by `performance.now()`; `undefined` is no row. */
  describe(keyHash: Buffer, found: object | undefined, askedAt: number): ReadRecord {
    if (!found) return { state: 'absent' };
    const row = found as ReadRow;
    this.clock.observe(row.database_now_ms, askedAt);
    if (!KNOWN_FORMATS.includes(row.format)) {
      const cause = new Error(
        `the record has format ${row.format}, written by a newer version of the library`,
      );
      return { state: 'unreadable', cause };
    }
    // Expired, and yet LOCK did not get it: whoever holds it is making it new, or deleting it.
    if (row.expired) return { state: 'in-flight' };
    if (!row.same) return { state: 'reused' };
    if (row.response_status !== null) {
      try {
        const response = this.responses.decode(keyHash, { ...row, response_status: row.response_status });
        const { expires_at_ms: expiresAtMs } = row;
        return { state: 'final', raised: row.status === 'error', response, expiresAtMs };
      } catch (error) {
        return { state: 'unreadable', cause: error as Error };
      }
    }
    if (row.status !== 'pending') return { state: 'released' };
    return row.lease_over === true ? { state: 'unowned', abandoned: row.abandoned } : { state: 'in-flight' };
  }
}

/** A final outcome with the attempt that reached it. */
export interface CompletedAttempt {
  readonly keyHash: Buffer;
  readonly attempt: number;
  readonly status: 'completed' | 'error';
  readonly response: StoredResponse;
  readonly error?: unknown;
  /** Called between the statements, for failpoints. */
  readonly onSent?: (what: 'record' | 'commit') => void;
}

function lockedPartOf(row: LookRow): LockRow {
  return {
    // Only a row that was locked is asked for it.
    attempt: row.locked_attempt as number,
    abandoned: row.locked_abandoned,
    status: row.locked_status,
    expired: row.locked_expired,
    expires_at_ms: row.locked_expires_at_ms,
    begun: row.begun,
    born: row.born,
    xid: row.xid,
  };
}

/** The record was not at the attempt that meant to write it. */
export class StaleAttemptError extends Error {
  override readonly name = 'StaleAttemptError';
  constructor(attempt: number) {
    super(`attempt ${attempt} does not hold the record any more`);
  }
}

/** What stays of an error for operators. */
export function describeError(error: unknown): string {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  // PostgreSQL's text holds no NUL.
  return text.replaceAll('\0', '').slice(0, LAST_ERROR_LENGTH);
}
