import { Injectable } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import type { IdempotencyEvent } from '../events/idempotency-event.js';
import type { AdminStore, LockedForDecision } from '../store/admin.store.js';
import type { DecisionAction, RecordDetails } from '../store/record-details.js';
import type { Session } from '../store/session.js';
import { withSession } from '../store/with-session.js';
import {
  CopyNotErasedError,
  DecisionUnknownError,
  RecordInFlightError,
  RecordNotFoundError,
  RecordStateError,
} from './admin.errors.js';
import {
  checkDecision,
  DECIDABLE,
  type Decision,
  journalChoiceOf,
  type ReleaseDecision,
} from './decision.js';
import { type GivenAnswer, responseOf } from './given-answer.js';
import { cursorOf, queryOf, type RecordFilter, type RecordPage } from './record-filter.js';
import { keyHashOf, type RecordReference, type ReferencedKey } from './record-reference.js';

export interface AdminParts {
  /** Where the records are; asked once for each call. */
  readonly store: () => Promise<AdminStore>;
  /** The same for the records of one database. */
  readonly storeOf: (dataSource: DataSource) => Promise<AdminStore>;
  /** The module's, where a reference names none. */
  readonly namespace: string;
  /** How long one question to the database may take. */
  readonly timeoutMs: number;
  readonly hashOf: (key: ReferencedKey) => Buffer;
  readonly downstreamKeyOf: (parts: { keyHash: Buffer; born: string; name: string }) => string;
  readonly isNeverReplayed: (header: string) => boolean;
  readonly emit: (event: IdempotencyEvent) => void;
}

/** A decision on its way: what it works on. */
interface Deciding {
  readonly store: AdminStore;
  readonly session: Session;
  readonly keyHash: Buffer;
}

/** What a decision writes, in the transaction that holds the record. */
type Write = (deciding: Deciding, locked: LockedForDecision) => Promise<void>;

/**
 * For people, and the tools they build: shows records, and decides about those whose outcome nobody knows. Every decision
 * is one transaction with its entry in the audit trail, is told as the event `resolved`, and counts for whoever comes
 * later: an attempt that turns out to be alive after all can record nothing any more.
 *
 * Nothing here waits for an attempt or disturbs one. It asks nobody who may do this: guard what calls it.
 *
 * All methods throw a `TypeError` or `RangeError` for arguments that are none, and what the driver throws when the database
 * cannot be reached; nothing is decided then.
 *
 * When the `dataSource` option is a function, the records are in several databases: {@link of} says in which one. Without it
 * every method throws an {@link AdminNotBoundError}.
 */
@Injectable()
export class IdempotencyAdmin {
  constructor(private readonly parts: AdminParts) {}

  /**
   * The same for the records of one database. One that was not seen yet is prepared by the first call, and looked after from
   * then on: its expired records are deleted, and its abandoned ones finished.
   *
   * Its methods throw a `TypeError` for what is no initialised `DataSource` of PostgreSQL or holds no records of the module,
   * and a `DatabaseNotPreparedError` when it cannot be used.
   */
  of(dataSource: DataSource): IdempotencyAdmin {
    const { storeOf } = this.parts;
    return new IdempotencyAdmin({ ...this.parts, store: () => storeOf(dataSource) });
  }

  /** A page of records, expired ones that are not deleted yet among them. The whole table may have to be read for it. */
  async list(filter: RecordFilter = {}): Promise<RecordPage> {
    const query = queryOf(filter, this.parts.namespace);
    const { records, next } = await this.#onSession((session, store) => store.list(session, query));
    return { records, ...(next ? { next: cursorOf(next) } : {}) };
  }

  /** A record with its journal, its stored answer and its trail; `undefined` when there is none. */
  async inspect(record: RecordReference): Promise<RecordDetails | undefined> {
    const keyHash = this.#keyHash(record);
    return this.#onSession((session, store) => store.details(session, keyHash));
  }

  /**
   * What `attempt.downstreamKey(name)` was for the record: to look up at the other system what became of a step that no
   * journal tells of.
   *
   * @throws {RecordNotFoundError}
   */
  async downstreamKey(record: RecordReference, name: string): Promise<string> {
    const keyHash = this.#keyHash(record);
    const born = await this.#onSession((session, store) => store.born(session, keyHash));
    if (born === undefined) throw new RecordNotFoundError(keyHash.toString('hex'));
    return this.parts.downstreamKeyOf({ keyHash, born, name });
  }

  /**
   * The operation is done, or never will be: every retry gets this answer from now on, and the handler never runs again.
   * For records that are abandoned or released. One whose time was over gets it again.
   *
   * @throws {RecordNotFoundError}
   * @throws {RecordInFlightError} when somebody is at it.
   * @throws {RecordStateError} when its outcome is final.
   * @throws {DecisionUnknownError} when the answer to COMMIT was lost.
   */
  async complete(record: RecordReference, answer: GivenAnswer, by: Decision): Promise<void> {
    const response = responseOf(answer, this.parts.isNeverReplayed);
    await this.#decide('complete', record, by, ({ store, session, keyHash }) =>
      store.complete(session, keyHash, response),
    );
  }

  /**
   * The next retry runs the handler again, whatever the route's `onAbandoned` and `maxAttempts` say. For abandoned records.
   *
   * @throws {RecordNotFoundError}
   * @throws {RecordInFlightError} when somebody is at it.
   * @throws {RecordStateError} when its outcome is final, or it is released already.
   * @throws {DecisionUnknownError} when the answer to COMMIT was lost.
   */
  async release(record: RecordReference, by: ReleaseDecision): Promise<void> {
    const journal = journalChoiceOf(by);
    await this.#decide('release', record, by, ({ store, session, keyHash }) =>
      store.release(session, keyHash, journal),
    );
  }

  /**
   * Takes what a client sent and got out of the tables. A final record leaves a tombstone, so that its effect is not repeated
   * until it expires: retries are answered 500 `IDEMPOTENCY_RESPONSE_NOT_STORED`. A released record is deleted. The trail
   * keeps the hash of the key. With a replay cache its copies go too, those in the memory of other processes when their
   * `maxAge` is over.
   *
   * @throws {RecordNotFoundError}
   * @throws {RecordInFlightError} when somebody is at it.
   * @throws {RecordStateError} when its outcome is unknown, and when it is released with something of it done.
   * @throws {DecisionUnknownError} when the answer to COMMIT was lost.
   * @throws {CopyNotErasedError} when the tables are done, and the shared cache could not be told: erase it again.
   */
  async erase(record: RecordReference, by: Decision): Promise<void> {
    const keyHash = this.#keyHash(record);
    try {
      await this.#eraseRecord(record, by);
    } catch (error) {
      // It may stand all the same.
      if (error instanceof DecisionUnknownError) await this.#eraseCopies(keyHash);
      throw error;
    }
    // Last: what was put into the cache before the tables were done is taken out, too.
    if (!(await this.#eraseCopies(keyHash))) throw new CopyNotErasedError(keyHash.toString('hex'));
  }

  async #eraseRecord(record: RecordReference, by: Decision): Promise<void> {
    await this.#decide('erase', record, by, async ({ store, session, keyHash }, { state }) => {
      if (state !== 'released') return store.erase(session, keyHash);
      if (await store.remove(session, keyHash)) return;
      // Fail closed: without its journal a retry would do again what is done.
      const choice = 'Something of it is done and journaled: complete it first.';
      throw new RecordStateError(keyHash.toString('hex'), 'erase', state, choice);
    });
  }

  async #eraseCopies(keyHash: Buffer): Promise<boolean> {
    const store = await this.parts.store();
    return store.copies?.erase(keyHash) ?? true;
  }

  async #decide(action: DecisionAction, record: RecordReference, by: Decision, write: Write): Promise<void> {
    checkDecision(by);
    const keyHash = this.#keyHash(record);
    const { timeoutMs, emit } = this.parts;
    const store = await this.parts.store();
    const session = await store.open(timeoutMs);
    const deciding = { store, session, keyHash };
    let decided: LockedForDecision;
    try {
      decided = await session.within(timeoutMs, this.#write(deciding, action, by, write));
      await this.#commit(deciding, action);
      session.release();
    } catch (error) {
      await session.rollbackAndRelease(timeoutMs);
      throw error;
    }
    const { operation } = decided;
    emit({ type: 'resolved', action, actor: by.actor, keyHash: keyHash.toString('hex'), operation });
  }

  async #write(
    deciding: Deciding,
    action: DecisionAction,
    { actor, reason }: Decision,
    write: Write,
  ): Promise<LockedForDecision> {
    const { store, session, keyHash } = deciding;
    await store.begin(session);
    const locked = await store.lock(session, keyHash, DECIDABLE[action]);
    if (!locked) throw await this.#refusal(deciding, action);
    await write(deciding, locked);
    const { attempt, state } = locked;
    await store.audit(session, keyHash, { action, attempt, state, actor, reason });
    return locked;
  }

  async #commit({ store, session, keyHash }: Deciding, action: DecisionAction): Promise<void> {
    const { timeoutMs } = this.parts;
    // Silence for too long is as little an answer as a lost connection.
    const result = await session
      .within(timeoutMs, store.commit(session))
      .catch((cause: unknown) => ({ kind: 'unknown', cause }) as const);
    switch (result.kind) {
      case 'committed':
        return;
      case 'refused':
        throw result.cause;
      case 'unknown':
        throw new DecisionUnknownError(keyHash.toString('hex'), action, { cause: result.cause });
    }
  }

  /** Why the record could not be taken. */
  async #refusal({ store, session, keyHash }: Deciding, action: DecisionAction): Promise<Error> {
    const hex = keyHash.toString('hex');
    const found = await store.find(session, keyHash);
    if (!found) return new RecordNotFoundError(hex);
    const { state, isKnown } = found;
    // It may be decided, and yet it was not to be had: somebody holds it.
    if (state === 'in-flight' || (isKnown && DECIDABLE[action].includes(state))) {
      return new RecordInFlightError(hex, action);
    }
    return isKnown
      ? new RecordStateError(hex, action, state)
      : new RecordStateError(hex, action, state, 'A newer version of the library wrote it: use that one.');
  }

  #keyHash(record: RecordReference): Buffer {
    return keyHashOf(record, this.parts.namespace, this.parts.hashOf);
  }

  async #onSession<T>(work: (session: Session, store: AdminStore) => Promise<T>): Promise<T> {
    const store = await this.parts.store();
    return withSession(store, this.parts.timeoutMs, (session) => work(session, store));
  }
}
