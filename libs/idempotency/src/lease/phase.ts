import type { DataSource } from 'typeorm';
import { failpoint } from '../failpoint.js';
import { ConnectionLostError } from '../store/connection-lost.error.js';
import type { AttemptIdentity } from '../store/identity.js';
import type { JournalEntry } from '../store/journal-entry.js';
import type { Fence, LeaseStore } from '../store/lease.store.js';
import type { Session } from '../store/session.js';
import { withSession } from '../store/with-session.js';
import { explainRefusal } from '../transaction/explain-refusal.js';
import type { MakeRunner } from '../transaction/join-data-source.js';
import { TransactionAttempt } from '../transaction/transaction-attempt.js';
import type { Visit } from './journal.js';
import { LeaseLostError, PhaseOutcomeUnknownError } from './lease.errors.js';
import { encodeResult } from './step-codec.js';
import { untilAnswered } from './until-answered.js';

/**
 * A phase whose code is silent for longer than its lease has lost it. A lease that is shorter than a busy process's pauses is
 * not to end its phases.
 */
const SHORTEST_IDLE_MS = 1_000;
/** How long the database may take to open or commit a phase. */
const ANSWER_TIMEOUT_MS = 30_000;
/** How long a phase whose COMMIT was not answered is asked after. */
const RESOLVE_TIMEOUT_MS = 5_000;

export interface PhaseParts {
  readonly store: LeaseStore;
  readonly dataSource: DataSource;
  readonly makeRunner: MakeRunner;
  readonly identity: AttemptIdentity;
  readonly fence: Fence;
  readonly leaseMs: number;
  readonly maxRuntimeMs: number;
  readonly acquireTimeoutMs: number;
  /** Keeps renewals back, which would wait for the row, from when the phase has a connection until it has ended. */
  readonly hold: () => Promise<() => void>;
  /** Told the phase's transaction before `fn` runs in it. */
  readonly onOpen: (transaction: TransactionAttempt) => void;
}

/**
 * Runs a phase: a transaction that holds the record, that the code of `fn` joins, and whose rows commit together with the
 * journal entry.
 *
 * @throws {LeaseLostError} when the record is not this attempt's: before `fn` runs, or instead of committing.
 * @throws what `fn` throws; its rows are rolled back.
 */
export async function runPhase(parts: PhaseParts, visit: Visit, fn: () => unknown): Promise<JournalEntry> {
  const { store, fence, leaseMs, maxRuntimeMs } = parts;
  const session = await store.open(parts.acquireTimeoutMs);
  const letGo = await parts.hold();
  let transaction: TransactionAttempt | undefined;
  try {
    failpoint('phase-begins');
    const idleMs = Math.max(leaseMs, SHORTEST_IDLE_MS);
    const opened = store.openPhase(session, fence, { idleMs, maxRuntimeMs });
    if (!(await session.within(ANSWER_TIMEOUT_MS, opened))) throw lost(parts);
    transaction = transactionOf(parts, visit, session);
    parts.onOpen(transaction);
    const value = await inside(transaction, session, fn);
    const entry: JournalEntry = {
      name: visit.name,
      kind: 'phase',
      position: visit.position,
      attempt: fence.attempt,
      raised: false,
      ...encodeResult(value),
    };
    failpoint('phase-done');
    await commit(parts, session, entry);
    failpoint('phase-committed');
    return entry;
  } catch (error) {
    transaction?.markRolledBack();
    throw error;
  } finally {
    // Whatever is still open is rolled back; the caller need not wait for it, and a renewal finds the row free soon.
    void session.rollbackAndRelease(parts.acquireTimeoutMs);
    letGo();
  }
}

/** Runs the code of the phase until it is done, or its connection is lost: there is nothing left to wait for then. */
async function inside(
  transaction: TransactionAttempt,
  session: Session,
  fn: () => unknown,
): Promise<unknown> {
  let value: unknown;
  let unfinished: Error | undefined;
  try {
    const work = transaction.runInside(async () => fn());
    value = await Promise.race([work, session.lost.then((error) => Promise.reject(error))]);
  } finally {
    unfinished = transaction.settle('its phase had ended');
  }
  if (unfinished) throw unfinished;
  return value;
}

async function commit(parts: PhaseParts, session: Session, entry: JournalEntry): Promise<void> {
  const { store, fence, leaseMs, identity } = parts;
  const sending = store.commitPhase(session, fence, entry, leaseMs, (what) => {
    if (what === 'commit') failpoint('phase-commit-sent');
  });
  const result = await session
    .within(ANSWER_TIMEOUT_MS, sending)
    .catch((cause: unknown) => ({ kind: 'unknown', cause }) as const);
  switch (result.kind) {
    case 'committed':
      session.release();
      return;
    case 'refused':
      throw explainRefusal(result.cause);
    case 'unknown': {
      session.destroy(
        result.cause instanceof Error ? result.cause : new ConnectionLostError(String(result.cause)),
      );
      const committed = await askWhatBecameOf(parts, entry.name).catch((cause: unknown) => {
        throw new PhaseOutcomeUnknownError(identity.operation, entry.name, { cause });
      });
      if (!committed) throw result.cause;
    }
  }
}

function askWhatBecameOf({ store, fence }: PhaseParts, name: string): Promise<boolean> {
  return untilAnswered(RESOLVE_TIMEOUT_MS, () =>
    withSession(store, 2 * RESOLVE_TIMEOUT_MS, (session) =>
      store.phaseSettled(session, fence, name, RESOLVE_TIMEOUT_MS),
    ),
  );
}

function transactionOf(parts: PhaseParts, { name }: Visit, session: Session): TransactionAttempt {
  const { identity, fence, dataSource, makeRunner } = parts;
  return new TransactionAttempt({
    identity: { ...identity, operation: `the phase ${JSON.stringify(name)} of ${identity.operation}` },
    number: fence.attempt,
    born: fence.born,
    xid: '',
    session,
    dataSource,
    makeRunner,
    // A phase is entered once: there is no handler in it to run again.
    undoHandler: () => Promise.reject(new Error('a phase has no handler')),
  });
}

function lost({ identity, fence }: PhaseParts): LeaseLostError {
  return new LeaseLostError(identity.operation, fence.attempt);
}
