import { setTimeout as delay } from 'node:timers/promises';
import type { IdempotencyStore } from '../store/idempotency.store.js';
import type { Session } from '../store/session.js';
import { Deadline } from './deadline.js';

/** How long an unknown outcome is asked after before the caller is told to come back. */
const RESOLVE_TIMEOUT_MS = 5_000;
const RESOLVE_INTERVAL_MS = 100;

/** What the record says of an attempt whose COMMIT was not answered. */
export type Resolution = 'committed' | 'rolled-back' | 'unresolved';

interface LostAttempt {
  readonly keyHash: Buffer;
  readonly attempt: number;
  /** When its record began. */
  readonly born: string;
  /** Its transaction. */
  readonly xid: string;
}

/**
 * Asks on fresh connections what became of the attempt, for up to {@link RESOLVE_TIMEOUT_MS}: the database may be
 * restarting.
 *
 * Fail closed: without a record that says so it is neither committed nor rolled back.
 */
export async function resolveOutcome(store: IdempotencyStore, lost: LostAttempt): Promise<Resolution> {
  const deadline = new Deadline(RESOLVE_TIMEOUT_MS);
  while (!deadline.isOver) {
    const answer = await ask(store, lost, deadline);
    if (answer === 'gone') return 'unresolved';
    if (answer !== undefined) return answer;
    await deadline.race(delay(RESOLVE_INTERVAL_MS));
  }
  return 'unresolved';
}

async function ask(
  store: IdempotencyStore,
  lost: LostAttempt,
  deadline: Deadline,
): Promise<'committed' | 'rolled-back' | 'gone' | undefined> {
  const waitMs = Math.max(1, Math.ceil(deadline.remainingMs));
  let session: Session | undefined;
  try {
    session = await store.open(waitMs);
    return await session.within(waitMs + 1_000, store.settled(session, lost, waitMs));
  } catch {
    return undefined;
  } finally {
    void session?.rollbackAndRelease(RESOLVE_TIMEOUT_MS);
  }
}
