import type { QueryResult, QueryResultRow } from 'pg';
import { adminSql, type AdminSql } from './admin.sql.js';
import { commit, type CommitResult, flush } from './commit.js';
import type { IdempotencyStore } from './idempotency.store.js';
import { KNOWN_FORMATS, type StoredResponse } from './record.js';
import type {
  DecisionAction,
  JournaledEntry,
  JournaledResult,
  RecordDetails,
  RecordedDecision,
  RecordedResponse,
  RecordState,
  RecordSummary,
} from './record-details.js';
import { unlessUnreplicated } from './replication.js';
import { BytesCodec } from './response-columns.js';
import type { Session } from './session.js';

/** Where a record stands in the order of {@link AdminStore.list}. */
export interface RecordPlace {
  /** When it expires, in microseconds. */
  readonly expires: string;
  readonly keyHash: Buffer;
}

export interface RecordQuery {
  readonly namespace: string;
  readonly scope: string | undefined;
  readonly operation: string | undefined;
  readonly state: RecordState | undefined;
  readonly limit: number;
  readonly after: RecordPlace | undefined;
}

/** What is kept of answers outside the tables. */
export interface AnswerCopies {
  /** `false`: a copy may be left. */
  erase(keyHash: Buffer): Promise<boolean>;
}

/** A record that is this transaction's to decide. */
export interface LockedForDecision {
  readonly attempt: number;
  readonly operation: string;
  readonly state: RecordState;
}

/** A decision, as the trail keeps it. */
export interface AuditEntry {
  readonly action: DecisionAction;
  readonly attempt: number;
  readonly state: RecordState;
  readonly actor: string;
  readonly reason: string;
}

/**
 * The records in PostgreSQL as people look at them and decide about them. A decision is one transaction: {@link begin},
 * {@link lock}, one write, {@link audit}, {@link commit}. What may be decided is not the store's to say.
 */
export class AdminStore {
  readonly sql: AdminSql;
  readonly #bytes: BytesCodec;

  constructor(
    readonly records: IdempotencyStore,
    /** `undefined`: there are none. */
    readonly copies?: AnswerCopies,
  ) {
    this.sql = adminSql(records.table);
    this.#bytes = new BytesCodec(records.sealing);
  }

  open(timeoutMs: number): Promise<Session> {
    return this.records.open(timeoutMs);
  }

  /** A page of records, those first that expire first; `next` is the place to go on after, when there are more. */
  async list(
    session: Session,
    { namespace, scope, operation, state, limit, after }: RecordQuery,
  ): Promise<{ records: RecordSummary[]; next: RecordPlace | undefined }> {
    const filter = [namespace, scope ?? null, operation ?? null, state ?? null];
    const { rows } = await session.query<PlacedRow>({
      text: this.sql.LIST,
      values: [...filter, after?.expires ?? null, after?.keyHash ?? null, limit + 1],
    });
    const page = rows.slice(0, limit);
    const last = rows.length > limit ? page.at(-1) : undefined;
    const next = last && { expires: last.place, keyHash: Buffer.from(last.keyHash, 'hex') };
    return { records: page.map(summaryOf), next };
  }

  /** A record with its journal and its trail, of one moment. */
  async details(session: Session, keyHash: Buffer): Promise<RecordDetails | undefined> {
    const { sql } = this;
    const values = [keyHash];
    const results = await flush(session, [
      { text: sql.LOOK },
      { text: sql.RECORD, values },
      { text: sql.JOURNAL, values },
      { text: sql.TRAIL, values },
      { text: 'COMMIT' },
    ]);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
    const [record, journal, trail] = results
      .slice(1, 4)
      .map((result) => (result as PromiseFulfilledResult<QueryResult>).value.rows);
    const row = record?.[0] as RecordRow | undefined;
    if (!row) return undefined;
    return {
      ...summaryOf(row),
      journal: (journal as JournalRow[]).map((entry) => this.#entry(keyHash, entry)),
      response: this.#response(keyHash, row),
      decisions: trail as RecordedDecision[],
    };
  }

  /** When the record began, in microseconds. */
  async born(session: Session, keyHash: Buffer): Promise<string | undefined> {
    const { rows } = await session.query<{ born: string }>({ text: this.sql.LIFE, values: [keyHash] });
    return rows[0]?.born;
  }

  async begin(session: Session): Promise<void> {
    await session.query({ text: this.sql.BEGIN });
  }

  /** Takes a record in one of `states` that nobody holds; `undefined`: nothing is locked, and {@link find} tells why. */
  async lock(
    session: Session,
    keyHash: Buffer,
    states: readonly RecordState[],
  ): Promise<LockedForDecision | undefined> {
    const { rows } = await session.query<LockedForDecision & QueryResultRow>({
      text: this.sql.LOCK,
      values: [keyHash, states],
    });
    return rows[0];
  }

  /** What the record is now; `isKnown` is false for one that a newer version of the library wrote. */
  async find(
    session: Session,
    keyHash: Buffer,
  ): Promise<{ state: RecordState; isKnown: boolean } | undefined> {
    const { rows } = await session.query<{ state: RecordState; format: number }>({
      text: this.sql.FIND,
      values: [keyHash],
    });
    return rows[0] && { state: rows[0].state, isKnown: KNOWN_FORMATS.includes(rows[0].format) };
  }

  async complete(session: Session, keyHash: Buffer, response: StoredResponse): Promise<void> {
    const { format, status, headers, body } = this.records.responses.encode(keyHash, response);
    await session.query({ text: this.sql.COMPLETE, values: [keyHash, format, status, headers, body] });
  }

  /** Gives the key back, with its journal or as if nothing had been done. */
  async release(session: Session, keyHash: Buffer, journal: 'keep' | 'discard'): Promise<void> {
    const values = [keyHash];
    if (journal === 'keep') {
      await session.query({ text: this.sql.RELEASE, values });
      return;
    }
    await session.query({ text: this.sql.RESTART, values });
    await session.query({ text: this.sql.FORGET_JOURNAL, values });
  }

  /** Makes a final record a tombstone that says nothing of its client. */
  async erase(session: Session, keyHash: Buffer): Promise<void> {
    const values = [keyHash];
    await session.query({ text: this.sql.ERASE, values });
    await session.query({ text: this.sql.FORGET_JOURNAL, values });
  }

  /** Removes a record that nothing was done under; `false`: something was, and it stands. */
  async remove(session: Session, keyHash: Buffer): Promise<boolean> {
    const { rowCount } = await session.query({ text: this.sql.REMOVE, values: [keyHash] });
    return rowCount === 1;
  }

  async audit(
    session: Session,
    keyHash: Buffer,
    { action, attempt, state, actor, reason }: AuditEntry,
  ): Promise<void> {
    await session.query({ text: this.sql.AUDIT, values: [keyHash, action, attempt, state, actor, reason] });
  }

  commit(session: Session): Promise<CommitResult> {
    return unlessUnreplicated(session, () => commit(session, [], 'COMMIT'));
  }

  #entry(keyHash: Buffer, { content_type: contentType, body, ...row }: JournalRow): JournaledEntry {
    return { ...row, result: this.#result(keyHash, row.name, contentType, body) };
  }

  #result(keyHash: Buffer, name: string, contentType: string | null, stored: Buffer): JournaledResult {
    try {
      const body = this.#bytes.decode(stored, { keyHash, purpose: 'step', name });
      if (contentType === null) return { kind: 'nothing' };
      if (contentType === 'application/json')
        return { kind: 'json', value: JSON.parse(body.toString('utf8')) };
      return { kind: 'bytes', bytes: body };
    } catch (error) {
      return { kind: 'unreadable', reason: (error as Error).message };
    }
  }

  #response(keyHash: Buffer, row: RecordRow): RecordedResponse | undefined {
    const { responseStatus: status, format } = row;
    if (status === null) return undefined;
    if (!KNOWN_FORMATS.includes(format)) {
      return { kind: 'unreadable', status, reason: `format ${format} is that of a newer version` };
    }
    try {
      return {
        kind: 'readable',
        ...this.records.responses.decode(keyHash, { ...row, response_status: status }),
      };
    } catch (error) {
      return { kind: 'unreadable', status, reason: (error as Error).message };
    }
  }
}

/** The columns of a summary, without those beside them. */
function summaryOf(row: RecordSummary): RecordSummary {
  const { keyHash, namespace, scope, key, operation, state, attempt, createdAt } = row;
  const { completedAt, expiresAt, leaseUntil, responseStatus, lastError } = row;
  const subject = { keyHash, namespace, scope, key, operation };
  const times = { createdAt, completedAt, expiresAt, leaseUntil };
  return { ...subject, state, attempt, ...times, responseStatus, lastError };
}

type PlacedRow = RecordSummary & QueryResultRow & { readonly place: string };

interface RecordRow extends RecordSummary {
  readonly format: number;
  readonly response_headers: Record<string, string> | null;
  readonly response_body: Buffer | null;
}

interface JournalRow extends Omit<JournaledEntry, 'result'> {
  readonly content_type: string | null;
  readonly body: Buffer;
}
