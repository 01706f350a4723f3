import type { AttemptIdentity } from '../store/identity.js';
import { type IdempotencyStore, type LockedRecord, StaleAttemptError } from '../store/idempotency.store.js';
import type { Session } from '../store/session.js';
import { isTransactionConflict } from '../store/sql-state.js';
import { type Answered, conclude } from './answered.js';
import type { Deadline } from './deadline.js';
import type { FinishedKeys } from './finished-keys.js';
import type { AttemptPolicy, EngineSettings } from './policy.js';

/** The record is this request's: the session's transaction is open and holds its row. */
export interface Owned {
  readonly kind: 'owned';
  readonly session: Session;
  readonly attempt: number;
  /** When the record began, in microseconds. */
  readonly born: string;
  /** When the record expires by the database's clock, in milliseconds since 1970. */
  readonly expiresAtMs: number;
  readonly takenOver: boolean;
}

/** How a request may proceed. */
export type Acquired = Owned | Answered;

export interface AcquireParts {
  readonly store: IdempotencyStore;
  readonly settings: EngineSettings;
  readonly finished: FinishedKeys;
}

/** How often a record may change under our hands before we answer that it is in flight. */
const MAX_ROUNDS = 6;

/**
 * Claims the record, or finds out what became of it. It waits for another attempt until `wait` is over, and without
 * it never.
 *
 * A record that this process has seen to be final is looked at first: as nearly always, it still is, and there is nothing to claim.
 *
 * It goes round when the record vanished or was released between two looks, and after counting a new attempt. Fail
 * closed: it never answers `'owned'` without holding the row, and gives up with `'in-flight'`.
 *
 * @throws when the database cannot be reached or refuses; nothing has run then.
 */
export async function acquire(
  { store, settings, finished }: AcquireParts,
  identity: AttemptIdentity,
  policy: AttemptPolicy,
  wait?: Deadline,
): Promise<Acquired> {
  const session = await store.open(settings.acquireTimeoutMs);
  let owned = false;
  let isOpen = false;
  let holdsRow = false;
  try {
    const { keyHash } = identity;
    if (finished.has(keyHash)) {
      const record = await session.within(settings.acquireTimeoutMs, store.look(session, identity));
      if (record.state === 'final') return conclude(record) as Answered;
      // Fail closed: what else there may be is the claim's to say.
      finished.delete(keyHash);
    }
    isOpen = true;
    let takenOver = false;
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const { ttlMs, maxRuntimeMs } = policy;
      // What is left of it in this round: the rounds share one wait.
      const waitMs = wait?.remainingMs;
      const claim = store.claim(session, identity, {
        ttlMs,
        maxRuntimeMs,
        ...(waitMs === undefined ? {} : { waitMs }),
      });
      const result = await session
        .within(settings.acquireTimeoutMs + (waitMs ?? 0), claim)
        .catch((error: unknown) => {
          // A deadlock or a foreign lock on the row: somebody else is at it. Nothing of ours has run.
          if (isTransactionConflict(error)) return { kind: 'wait-over' } as const;
          throw error;
        });
      switch (result.kind) {
        case 'wait-over':
          return { kind: 'in-flight' };
        case 'not-locked': {
          const { record } = result;
          if (record.state === 'final') finished.add(keyHash);
          const answer = conclude(record);
          if (answer !== 'again') return answer;
          await session.within(settings.acquireTimeoutMs, session.query({ text: 'ROLLBACK' }));
          break;
        }
        case 'locked': {
          const { record } = result;
          if (mayBegin(record)) {
            owned = true;
            const { attempt, born, expiresAtMs } = record;
            return { kind: 'owned', session, attempt, born, expiresAtMs, takenOver };
          }
          const abandoned = abandonedCount(record);
          if (abandoned >= policy.maxAttempts) {
            holdsRow = true;
            return { kind: 'attempts-exhausted' };
          }
          takenOver ||= abandoned > 0;
          await session
            .within(
              settings.acquireTimeoutMs,
              store.reclaim(session, identity, { attempt: record.attempt, abandoned, ttlMs }),
            )
            .catch((error: unknown) => {
              if (!(error instanceof StaleAttemptError)) throw error;
            });
          break;
        }
        default:
          result satisfies never;
      }
    }
    return { kind: 'in-flight' };
  } finally {
    if (isOpen && !owned) {
      const goneBack = session.rollbackAndRelease(settings.acquireTimeoutMs);
      // Awaited only where whoever comes next, a person too, would take the lock of this look for an attempt: else the answer
      // need not wait for the connection's way back to the pool, which cannot fail.
      if (holdsRow) await goneBack;
    } else if (!owned) session.release();
  }
}

/** A counted attempt that nobody has begun: fresh from CLAIM, or from RECLAIM. */
function mayBegin({ status, expired, begun }: LockedRecord): boolean {
  return status === 'pending' && !expired && !begun;
}

/** How many attempts in a row have died, the one whose row we hold included. */
function abandonedCount({ status, expired, abandoned }: LockedRecord): number {
  return status === 'pending' && !expired ? abandoned + 1 : 0;
}
