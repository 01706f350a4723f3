import type { QueryResult, QueryResultRow } from 'pg';
import { commit, type CommitResult, flush } from './commit.js';
import { describeError, type IdempotencyStore, type ReadRecord } from './idempotency.store.js';
import type { AttemptIdentity } from './identity.js';
import type { JournalEntry } from './journal-entry.js';
import { leaseSql, type LeaseSql } from './lease.sql.js';
import type { StoredResponse } from './record.js';
import { awaitStandby, NotReplicatedError, replicated, unlessUnreplicated } from './replication.js';
import { BytesCodec } from './response-columns.js';
import type { Session } from './session.js';

/** Which attempt writes: its number, in the life of the record that it belongs to. */
export interface Fence {
  readonly keyHash: Buffer;
  readonly attempt: number;
  /** When the record began, in microseconds. */
  readonly born: string;
}

/** What a claim came to. */
export type LeaseClaim =
  | {
      readonly kind: 'claimed';
      readonly fence: Fence;
      /** The record was abandoned: another attempt began, and nobody knows how far it came. */
      readonly resumed: boolean;
      readonly journal: readonly JournalEntry[];
    }
  | { readonly kind: 'not-claimed'; readonly record: ReadRecord };

export interface LeaseClaimOptions {
  readonly ttlMs: number;
  readonly leaseMs: number;
  /** Whether an abandoned record of lease mode is taken over. */
  readonly retryAbandoned: boolean;
  readonly maxAttempts: number;
  /** Kept until the outcome is final, so that the handler can be called again without the client. */
  readonly request?: Buffer;
}

/** A record that waits to be finished without its client. */
export interface AbandonedRecord {
  readonly identity: AttemptIdentity;
  readonly abandoned: number;
  /** `undefined`: it is encrypted, and the key is not at hand. */
  readonly request: Buffer | undefined;
  /** Where it stands in the order of {@link LeaseStore.abandoned}. */
  readonly since: string;
}

/** A final outcome in lease mode. */
export interface LeaseOutcome {
  readonly status: 'completed' | 'error';
  readonly response: StoredResponse;
  readonly error?: unknown;
}

/**
 * The records of lease mode in PostgreSQL. Every write is one statement that its fence may stop; `false` says that it did:
 * the record is not this attempt's any more.
 */
export class LeaseStore {
  readonly sql: LeaseSql;
  readonly #bytes: BytesCodec;

  constructor(readonly records: IdempotencyStore) {
    this.sql = leaseSql(records.table, records.serverVersion);
    this.#bytes = new BytesCodec(records.sealing);
  }

  open(timeoutMs: number): Promise<Session> {
    return this.records.open(timeoutMs);
  }

  /**
   * CLAIM and READ, and the journal when there were attempts before.
   *
   * @throws {NotReplicatedError} Fail closed: a claim that a failover may take back is none. What would be done under it, another
   *   claim would do again.
   */
  async claim(
    session: Session,
    identity: AttemptIdentity,
    { ttlMs, leaseMs, retryAbandoned, maxAttempts, request }: LeaseClaimOptions,
  ): Promise<LeaseClaim> {
    const { keyHash, namespace, scope, key, operation, fingerprint } = identity;
    const kept = request ? this.#bytes.encode(request, { keyHash, purpose: 'request' }) : null;
    const askedAt = performance.now();
    const subject = [keyHash, namespace, scope, key, operation, fingerprint];
    const before = session.unreplicated;
    const results = await flush(session, [
      { text: this.sql.CLAIM, values: [...subject, ttlMs, leaseMs, retryAbandoned, maxAttempts, kept] },
      { text: this.records.sql.READ, values: [keyHash, fingerprint] },
    ]);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
    const [claimed, read] = results.map((result) => (result as PromiseFulfilledResult<QueryResult>).value);
    const row = claimed?.rows[0] as { attempt: number; born: string; resumed: boolean } | undefined;
    if (!row) {
      const record = await this.records.found(session, keyHash, read?.rows[0], { askedAt });
      return { kind: 'not-claimed', record: await this.#unlessHeld(session, keyHash, record) };
    }
    const { attempt, born, resumed } = row;
    const fence = { keyHash, attempt, born };
    if (session.unreplicated > before) {
      await this.#write(session, this.sql.UNCLAIM, fence, [resumed]);
      throw new NotReplicatedError();
    }
    const stored = attempt === 1 ? [] : await this.#journalRows(session, keyHash);
    try {
      return {
        kind: 'claimed',
        fence,
        resumed,
        journal: stored.map((entry) => this.#entryOf(keyHash, entry)),
      };
    } catch (error) {
      // Fail closed: without what was done before, nothing may be done again. It waits for the key that opens it.
      await this.abandon(session, fence, error);
      return { kind: 'not-claimed', record: { state: 'unreadable', cause: error as Error } };
    }
  }

  /** What stands in the record now. */
  async read(session: Session, { keyHash, fingerprint }: AttemptIdentity): Promise<ReadRecord> {
    const askedAt = performance.now();
    const { rows } = await session.query({ text: this.records.sql.READ, values: [keyHash, fingerprint] });
    const record = await this.records.found(session, keyHash, rows[0], { askedAt });
    return this.#unlessHeld(session, keyHash, record);
  }

  /** What was read, unless its lease is over and its row is somebody's all the same. */
  async #unlessHeld(session: Session, keyHash: Buffer, record: ReadRecord): Promise<ReadRecord> {
    if (record.state !== 'unowned') return record;
    const { rowCount } = await session.query({ text: this.sql.UNHELD, values: [keyHash] });
    return rowCount === 0 ? { state: 'in-flight' } : record;
  }

  async #journalRows(session: Session, keyHash: Buffer): Promise<JournalRow[]> {
    return (await session.query<JournalRow>({ text: this.sql.JOURNAL, values: [keyHash] })).rows;
  }

  #entryOf(keyHash: Buffer, { content_type: contentType, body, ...row }: JournalRow): JournalEntry {
    const place = { keyHash, purpose: 'step', name: row.name } as const;
    return { ...row, contentType, body: this.#bytes.decode(body, place) };
  }

  renew(session: Session, fence: Fence, leaseMs: number): Promise<boolean> {
    return this.#write(session, this.sql.RENEW, fence, [leaseMs]);
  }

  async journalStep(session: Session, fence: Fence, entry: JournalEntry, leaseMs: number): Promise<boolean> {
    const statement = { text: this.sql.JOURNAL_STEP, values: this.#entryValues(fence, entry, leaseMs) };
    const { rows } = await replicated(session, () => session.query<{ fenced: number }>(statement));
    return rows[0]?.fenced === 1;
  }

  /**
   * Begins a phase's transaction, which then holds the record. On `false` nothing is held; the session needs a rollback.
   */
  async openPhase(
    session: Session,
    { keyHash, attempt, born }: Fence,
    { idleMs, maxRuntimeMs }: { idleMs: number; maxRuntimeMs: number },
  ): Promise<boolean> {
    const results = await flush(session, [
      { text: this.sql.BEGIN },
      { text: this.sql.PHASE, values: [keyHash, attempt, born, idleMs, maxRuntimeMs] },
    ]);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
    return (results[1] as PromiseFulfilledResult<QueryResult>).value.rowCount === 1;
  }

  /** Journals the phase, renews the lease, and commits both with the phase's rows. */
  commitPhase(
    session: Session,
    fence: Fence,
    entry: JournalEntry,
    leaseMs: number,
    onSent: (what: 'record' | 'commit') => void,
  ): Promise<CommitResult> {
    const values = this.#entryValues(fence, entry, leaseMs);
    return unlessUnreplicated(session, () =>
      commit(session, [{ text: this.sql.JOURNAL_PHASE, values }], 'COMMIT', { onSent }),
    );
  }

  /**
   * What became of a phase after the answer to its COMMIT was lost. Waits at most `waitMs` for its transaction to end, and as
   * long for the standbys to have it.
   *
   * @throws {NotReplicatedError} when it was committed here, and a failover may take it back.
   */
  async phaseSettled(
    session: Session,
    { keyHash, attempt }: Fence,
    name: string,
    waitMs: number,
  ): Promise<boolean> {
    const results = await flush(session, [
      { text: this.sql.BEGIN },
      { text: this.records.sql.LIMIT_WAIT, values: [waitMs] },
      { text: this.sql.PHASE_OVER, values: [keyHash] },
      { text: this.sql.PHASE_FOUND, values: [keyHash, name, attempt] },
      { text: 'ROLLBACK' },
    ]);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
    const isFound = (results[3] as PromiseFulfilledResult<QueryResult>).value.rowCount === 1;
    if (isFound) await awaitStandby(session, { waitMs });
    return isFound;
  }

  /** Answers when the record expires, by the database's clock. */
  async complete(
    session: Session,
    fence: Fence,
    { status, response, error }: LeaseOutcome,
    ttlMs: number,
  ): Promise<{ readonly expiresAtMs: number } | false> {
    const columns = this.records.responses.encode(fence.keyHash, response);
    const { format, headers, body } = columns;
    const lastError = error === undefined ? null : describeError(error);
    const outcome = [status, format, columns.status, headers, body, lastError, ttlMs];
    const { keyHash, attempt, born } = fence;
    const askedAt = performance.now();
    const answer = await replicated(session, () =>
      session.query({ text: this.sql.COMPLETE, values: [keyHash, attempt, born, ...outcome] }),
    );
    const [row] = answer.rows as { expires_at_ms: number; database_now_ms: number }[];
    if (!row) return false;
    this.records.clock.observe(row.database_now_ms, askedAt);
    return { expiresAtMs: row.expires_at_ms };
  }

  release(session: Session, fence: Fence, error: unknown): Promise<boolean> {
    return this.#write(session, this.sql.RELEASE, fence, [describeError(error)]);
  }

  abandon(session: Session, fence: Fence, error: unknown): Promise<boolean> {
    return this.#write(session, this.sql.ABANDON, fence, [describeError(error)]);
  }

  forget(session: Session, fence: Fence): Promise<boolean> {
    return this.#write(session, this.sql.FORGET, fence, []);
  }

  /**
   * Whether a write of this attempt that was stopped had been written before, by a first try whose answer was lost.
   *
   * @throws {NotReplicatedError} when it was written here, and a failover may take it back.
   */
  async isWritten(session: Session, fence: Fence): Promise<boolean> {
    const isWritten = await this.#write(session, this.sql.WRITTEN, fence, []);
    if (isWritten) await awaitStandby(session);
    return isWritten;
  }

  /** A page of the records that wait to be finished, the longest abandoned first. */
  async abandoned(
    session: Session,
    namespace: string,
    { graceMs, limit, after }: { graceMs: number; limit: number; after?: AbandonedRecord },
  ): Promise<AbandonedRecord[]> {
    const { rows } = await session.query<AbandonedRow>({
      text: this.sql.ABANDONED,
      values: [namespace, graceMs, after?.since ?? null, after?.identity.keyHash ?? null, limit],
    });
    return rows.map(({ key_hash: keyHash, scope, key, operation, fingerprint, ...row }) => ({
      identity: { namespace, scope, key, keyHash, operation, fingerprint },
      abandoned: row.abandoned,
      since: row.since,
      request: this.#requestOf(keyHash, row.request),
    }));
  }

  #requestOf(keyHash: Buffer, stored: Buffer): Buffer | undefined {
    try {
      return this.#bytes.decode(stored, { keyHash, purpose: 'request' });
    } catch {
      return undefined;
    }
  }

  async #write(
    session: Session,
    text: string,
    { keyHash, attempt, born }: Fence,
    values: readonly unknown[],
  ): Promise<boolean> {
    const { rowCount } = await session.query({ text, values: [keyHash, attempt, born, ...values] });
    return rowCount === 1;
  }

  #entryValues({ keyHash, attempt, born }: Fence, entry: JournalEntry, leaseMs: number): unknown[] {
    const { name, position, kind, raised, contentType } = entry;
    const body = this.#bytes.encode(entry.body, { keyHash, purpose: 'step', name });
    return [keyHash, attempt, born, leaseMs, name, position, kind, raised, contentType, body];
  }
}

interface JournalRow extends QueryResultRow {
  name: string;
  position: number;
  kind: 'step' | 'phase';
  attempt: number;
  raised: boolean;
  content_type: string | null;
  body: Buffer;
}

interface AbandonedRow extends QueryResultRow {
  key_hash: Buffer;
  scope: string;
  key: string;
  operation: string;
  fingerprint: Buffer;
  abandoned: number;
  request: Buffer;
  since: string;
}
