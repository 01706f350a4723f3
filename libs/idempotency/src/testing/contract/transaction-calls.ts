import type { CommitResult } from '../../store/commit.js';
import type { ClaimResult, CompletedAttempt, ReadRecord } from '../../store/idempotency.store.js';
import type { AttemptIdentity } from '../../store/identity.js';
import type { LockedRecord } from '../../store/locked-record.js';
import type { StoredResponse } from '../../store/record.js';
import type { Session } from '../../store/session.js';
import type { RecordStore } from './contract-stores.js';
import { AT_ONCE_MS, failure, holds } from './expectations.js';
import type { Stage } from './stage.js';

export const TTL_MS = 60_000;
/** The server ends a transaction of a case after it, whatever that waits for. */
export const MAX_RUNTIME_MS = 10_000;
export const CREATED: StoredResponse = {
  status: 201,
  headers: { 'content-type': 'application/json' },
  body: Buffer.from('{"id":1}'),
};

/** What a claim came to, in one word. */
export type Found = ReadRecord['state'] | Exclude<ClaimResult['kind'], 'not-locked'>;

export interface Claim {
  readonly found: Found;
  /** When it is `locked`, with its transaction open until the case ends; given back otherwise. */
  readonly session: Session;
  readonly locked: LockedRecord | undefined;
  /** What stands in a record that was not locked. */
  readonly record: ReadRecord | undefined;
}

/** An attempt that may begin: its session's transaction holds the record. */
export interface Owner {
  readonly identity: AttemptIdentity;
  readonly session: Session;
  readonly attempt: number;
  readonly born: string;
  /** Its session's transaction. */
  readonly xid: string;
  readonly expiresAtMs: number;
}

export interface ClaimOptions {
  readonly waitMs?: number;
  readonly maxRuntimeMs?: number;
  readonly ttlMs?: number;
  /** The session's default isolation level. */
  readonly level?: string;
}

/** Transaction mode, as its engine speaks to the store. */
export class TransactionCalls {
  constructor(
    private readonly on: Stage,
    readonly store: RecordStore,
  ) {}

  async claim(
    identity: AttemptIdentity,
    { waitMs, maxRuntimeMs = MAX_RUNTIME_MS, ttlMs = TTL_MS, level }: ClaimOptions = {},
  ): Promise<Claim> {
    const { store, on } = this;
    const session = level === undefined ? await on.open(store) : await on.openAt(level, store);
    const wait = waitMs === undefined ? {} : { waitMs };
    const result = await store.claim(session, identity, { ttlMs, maxRuntimeMs, ...wait });
    if (result.kind === 'locked')
      return { found: 'locked', session, locked: result.record, record: undefined };
    await on.close(session);
    const record = result.kind === 'not-locked' ? result.record : undefined;
    return { found: record?.state ?? 'wait-over', session, locked: undefined, record };
  }

  /** Claims a record whose attempt may begin. */
  async own(identity: AttemptIdentity, options?: ClaimOptions): Promise<Owner> {
    const { found, session, locked } = await this.claim(identity, options);
    if (!locked) throw failure(`a claim: found '${found}', not 'locked'`);
    const { attempt, born, xid, expiresAtMs, begun, status, expired } = locked;
    holds('a claim of a record that nobody has begun', { begun, status, expired }, BEGINS);
    return { identity, session, attempt, born, xid, expiresAtMs };
  }

  /** Counts the next attempt on a record that is free, as the engine does, and begins it. */
  async retry(identity: AttemptIdentity): Promise<Owner> {
    const claim = await this.claim(identity, { waitMs: AT_ONCE_MS });
    const { locked } = claim;
    if (!locked) throw failure(`a retry: found '${claim.found}', not 'locked'`);
    await this.reclaim(identity, claim);
    return this.own(identity);
  }

  /** Counts the next attempt on a record that a claim has locked. */
  async reclaim(identity: AttemptIdentity, { session, locked, found }: Claim): Promise<void> {
    if (!locked) throw failure(`a claim: found '${found}', not 'locked'`);
    const { attempt, status, expired } = locked;
    const abandoned = status === 'pending' && !expired ? locked.abandoned + 1 : 0;
    await this.store.reclaim(session, identity, { attempt, abandoned, ttlMs: TTL_MS });
    await this.on.close(session);
  }

  /** The attempt dies: its lock is gone, and the record is as it has left it. */
  async abandon({ session }: Owner): Promise<void> {
    await this.on.close(session);
  }

  complete(
    { identity: { keyHash }, attempt, session }: Owner,
    outcome: Partial<CompletedAttempt> = {},
  ): Promise<CommitResult> {
    const done = { keyHash, attempt, status: 'completed', response: CREATED } as const;
    return this.store.complete(session, { ...done, ...outcome });
  }

  /** Completes it, and expects that to be committed. */
  async completed(owner: Owner, outcome: Partial<CompletedAttempt> = {}): Promise<void> {
    const result = await this.complete(owner, outcome);
    if (result.kind !== 'committed')
      throw failure(`an outcome of the owner: ${result.kind}, ${String(result.cause)}`);
    await this.on.close(owner.session);
  }

  async released(owner: Owner, { began = true } = {}): Promise<void> {
    const result = await this.store.release(owner.session, { ...this.#lifeOf(owner), error: FAILED, began });
    holds('a release', result.kind, 'committed');
    await this.on.close(owner.session);
  }

  /** Gives the key back from a connection that is not the attempt's. */
  async giveBack(owner: Owner): Promise<void> {
    const session = await this.on.open(this.store);
    const waitMs = AT_ONCE_MS;
    await this.store.giveBack(session, { ...this.#lifeOf(owner), error: FAILED, waitMs });
    await this.on.close(session);
  }

  async settled(owner: Owner): Promise<'committed' | 'rolled-back' | 'gone'> {
    const session = await this.on.open(this.store);
    const answer = await this.store.settled(session, this.#lifeOf(owner), AT_ONCE_MS);
    await this.on.close(session);
    return answer;
  }

  async look(identity: AttemptIdentity): Promise<ReadRecord> {
    const session = await this.on.open(this.store);
    const record = await this.store.look(session, identity);
    await this.on.close(session);
    return record;
  }

  /** The same attempt in a new transaction, which holds nothing: it has lost its lock and does not know. */
  async withoutLock(owner: Owner): Promise<Owner> {
    const session = await this.on.open(this.store);
    await session.query({ text: this.store.sql.BEGIN });
    await session.query({ text: this.store.sql.SAVEPOINT });
    return { ...owner, session };
  }

  #lifeOf({ identity: { keyHash }, attempt, born, xid }: Owner) {
    return { keyHash, attempt, born, xid };
  }
}

const FAILED = new Error('the handler failed');
const BEGINS = { begun: false, status: 'pending', expired: false };
