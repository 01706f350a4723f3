import type { CommitResult } from '../../store/commit.js';
import type { ReadRecord } from '../../store/idempotency.store.js';
import type { AttemptIdentity } from '../../store/identity.js';
import type { JournalEntry } from '../../store/journal-entry.js';
import type { AbandonedRecord, Fence, LeaseClaim, LeaseClaimOptions } from '../../store/lease.store.js';
import type { StoredResponse } from '../../store/record.js';
import type { Session } from '../../store/session.js';
import { isTransactionConflict } from '../../store/sql-state.js';
import { withSession } from '../../store/with-session.js';
import { ACQUIRE_TIMEOUT_MS, type LeaseRecordStore } from './contract-stores.js';
import { failure } from './expectations.js';
import type { Stage } from './stage.js';
import { CREATED, MAX_RUNTIME_MS, TTL_MS } from './transaction-calls.js';

export const LEASE_MS = 60_000;
const POLICY: LeaseClaimOptions = { ttlMs: TTL_MS, leaseMs: LEASE_MS, retryAbandoned: true, maxAttempts: 5 };
/** How often a claim that met another transaction at the row is made again. */
const CONFLICTS = 20;

export type Claimed = Extract<LeaseClaim, { kind: 'claimed' }>;

/** What a claim came to, in one word. */
export type LeaseFound = ReadRecord['state'] | 'claimed';

export type LeaseOptions = Partial<LeaseClaimOptions> & {
  /** The session's default isolation level. */
  readonly level?: string;
};

/** Lease mode, as its engine speaks to the store: a connection for each statement, and none in between. */
export class LeaseCalls {
  constructor(
    private readonly on: Stage,
    readonly store: LeaseRecordStore,
  ) {}

  /** As the engine does it: a claim that met another transaction at the row (40001) is made again. */
  async attempt(identity: AttemptIdentity, { level, ...options }: LeaseOptions = {}): Promise<LeaseClaim> {
    const { store, on } = this;
    const session = level === undefined ? await on.open(store) : await on.openAt(level, store);
    for (let round = 0; ; round++) {
      try {
        const claim = await store.claim(session, identity, { ...POLICY, ...options });
        await on.close(session);
        return claim;
      } catch (error) {
        if (!isTransactionConflict(error) || round === CONFLICTS) throw error;
      }
    }
  }

  async claim(identity: AttemptIdentity, options?: LeaseOptions): Promise<LeaseFound> {
    const claim = await this.attempt(identity, options);
    return claim.kind === 'claimed' ? 'claimed' : claim.record.state;
  }

  /** Claims a record that is free. */
  async own(identity: AttemptIdentity, options?: LeaseOptions): Promise<Claimed> {
    const claim = await this.attempt(identity, options);
    if (claim.kind === 'claimed') return claim;
    throw failure(`a claim: found '${claim.record.state}', not 'claimed'`);
  }

  read(identity: AttemptIdentity): Promise<ReadRecord> {
    return this.#with((session) => this.store.read(session, identity));
  }

  renew(fence: Fence, leaseMs = LEASE_MS): Promise<boolean> {
    return this.#with((session) => this.store.renew(session, fence, leaseMs));
  }

  journal(fence: Fence, entry: JournalEntry): Promise<boolean> {
    return this.#with((session) => this.store.journalStep(session, fence, entry, LEASE_MS));
  }

  complete(
    fence: Fence,
    response: StoredResponse = CREATED,
  ): Promise<{ readonly expiresAtMs: number } | false> {
    const outcome = { status: 'completed', response } as const;
    return this.#with((session) => this.store.complete(session, fence, outcome, TTL_MS));
  }

  release(fence: Fence): Promise<boolean> {
    return this.#with((session) => this.store.release(session, fence, FAILED));
  }

  abandon(fence: Fence): Promise<boolean> {
    return this.#with((session) => this.store.abandon(session, fence, FAILED));
  }

  forget(fence: Fence): Promise<boolean> {
    return this.#with((session) => this.store.forget(session, fence));
  }

  /** What waits to be finished without its client. */
  abandoned(): Promise<AbandonedRecord[]> {
    return this.#with((session) =>
      this.store.abandoned(session, this.on.namespace, { graceMs: 0, limit: 10 }),
    );
  }

  /** A phase: on `undefined` the record is not the attempt's. */
  async phase(fence: Fence, level?: string): Promise<Session | undefined> {
    const { store, on } = this;
    const session = level === undefined ? await on.open(store) : await on.openAt(level, store);
    const bounds = { idleMs: LEASE_MS, maxRuntimeMs: MAX_RUNTIME_MS };
    if (await store.openPhase(session, fence, bounds)) return session;
    await on.close(session);
    return undefined;
  }

  async commitPhase(
    session: Session,
    fence: Fence,
    entry: JournalEntry,
    onSent: (what: 'record' | 'commit') => void = () => undefined,
  ): Promise<CommitResult> {
    const result = await this.store.commitPhase(
      session,
      fence,
      { ...entry, kind: 'phase' },
      LEASE_MS,
      onSent,
    );
    await this.on.close(session);
    return result;
  }

  phaseSettled(fence: Fence, name: string): Promise<boolean> {
    return this.#with((session) => this.store.phaseSettled(session, fence, name, ACQUIRE_TIMEOUT_MS));
  }

  #with<T>(work: (session: Session) => Promise<T>): Promise<T> {
    return withSession(this.store, 2 * ACQUIRE_TIMEOUT_MS, work);
  }
}

const FAILED = new Error('the handler failed');

/** An entry of the journal with that name. */
export function entryOf(name: string, entry: Partial<JournalEntry> = {}): JournalEntry {
  return {
    name,
    position: 1,
    kind: 'step',
    attempt: 1,
    raised: false,
    contentType: 'application/json',
    body: Buffer.from(`"${name}"`),
    ...entry,
  };
}
