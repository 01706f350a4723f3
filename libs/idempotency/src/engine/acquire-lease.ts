import { setTimeout as delay } from 'node:timers/promises';
import type { ReadRecord } from '../store/idempotency.store.js';
import type { LeaseClaim, LeaseStore } from '../store/lease.store.js';
import type { Session } from '../store/session.js';
import { isTransactionConflict } from '../store/sql-state.js';
import { type Answered, conclude } from './answered.js';
import type { Deadline } from './deadline.js';
import type { EngineRequest } from './outcomes.js';
import type { AttemptPolicy, EngineSettings } from './policy.js';

/** The record is this request's until its lease is over. */
export interface Leased extends Extract<LeaseClaim, { kind: 'claimed' }> {
  /** When the claim was sent, on the process's monotonic clock: the lease cannot have begun earlier. */
  readonly sentAt: number;
}

/** How often a record may change under our hands before we answer that it is in flight. */
const MAX_ROUNDS = 6;
/** How often a record in flight elsewhere is looked at: there is no lock to wait for. */
const POLL_MS = 100;

interface LeaseParts {
  readonly store: LeaseStore;
  readonly settings: EngineSettings;
}

/**
 * Claims the record durably, or finds out what became of it. No connection is held when it returns. It looks again until
 * `wait` is over, and without it waits for nobody.
 *
 * Fail closed: it never answers `'claimed'` without a claim that is committed.
 *
 * @throws when the database cannot be reached or refuses. A claim whose answer was lost stays, and its lease runs out.
 */
export async function acquireLease(
  parts: LeaseParts,
  request: EngineRequest,
  policy: AttemptPolicy,
  wait?: Deadline,
): Promise<Leased | Answered> {
  for (;;) {
    const answer = await claimOrRead(parts, request, policy);
    if (answer.kind !== 'in-flight' || !wait || wait.isOver) return answer;
    await wait.race(delay(POLL_MS));
  }
}

async function claimOrRead(
  { store, settings }: LeaseParts,
  { identity, stored }: EngineRequest,
  policy: AttemptPolicy,
): Promise<Leased | Answered> {
  const { ttlMs, leaseMs, maxAttempts } = policy;
  const options = {
    ttlMs,
    leaseMs,
    maxAttempts,
    retryAbandoned: policy.onAbandoned === 'retry',
    ...(stored ? { request: stored } : {}),
  };
  const session = await store.open(settings.acquireTimeoutMs);
  try {
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const sentAt = performance.now();
      const claim = await attemptClaim(session, settings, () => store.claim(session, identity, options));
      if (claim === 'conflict') continue;
      if (claim.kind === 'claimed') return { ...claim, sentAt };
      const answer = mayTakeOver(claim.record, policy) ? 'again' : conclude(claim.record);
      if (answer !== 'again') return answer;
    }
    return { kind: 'in-flight' };
  } finally {
    // Statements outside a transaction leave nothing open; a lost connection is destroyed.
    session.release();
  }
}

/** Its lease ended between our two looks: the next claim gets it, or finds who did. Nobody needs to decide about it. */
export function mayTakeOver(record: ReadRecord, { onAbandoned, maxAttempts }: AttemptPolicy): boolean {
  return record.state === 'unowned' && onAbandoned === 'retry' && record.abandoned + 1 < maxAttempts;
}

/** A claim that met another transaction at the row under REPEATABLE READ and above has changed nothing. */
async function attemptClaim(
  session: Session,
  { acquireTimeoutMs }: EngineSettings,
  claim: () => Promise<LeaseClaim>,
): Promise<LeaseClaim | 'conflict'> {
  try {
    return await session.within(acquireTimeoutMs, claim());
  } catch (error) {
    if (!isTransactionConflict(error)) throw error;
    return 'conflict';
  }
}
