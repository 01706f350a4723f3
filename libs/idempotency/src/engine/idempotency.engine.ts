import type { IdempotencyEvent } from '../events/idempotency-event.js';
import { areFailpointsArmed, failpoint } from '../failpoint.js';
import { ConnectionLostError } from '../store/connection-lost.error.js';
import type { AttemptIdentity } from '../store/identity.js';
import type { CommitResult } from '../store/commit.js';
import type { IdempotencyStore } from '../store/idempotency.store.js';
import type { Session } from '../store/session.js';
import { isTransactionConflict } from '../store/sql-state.js';
import { explainRefusal } from '../transaction/explain-refusal.js';
import { TransactionAttempt } from '../transaction/transaction-attempt.js';
import { acquire, type Acquired, type Owned } from './acquire.js';
import { Deadline } from './deadline.js';
import { answerFrom, type EngineParts, named } from './engine-parts.js';
import { FinishedKeys } from './finished-keys.js';
import type { SharedOutcome } from './in-flight.registry.js';
import type { Engine, EngineOutcome, EngineRequest, HandlerOutcome, RunHandler } from './outcomes.js';
import type { AttemptPolicy } from './policy.js';
import { beginTurn, takeTurn } from './take-turn.js';
import { resolveOutcome } from './unknown-outcome.js';

/** How long a settled attempt may take to write its record and commit. */
const COMMIT_TIMEOUT_MS = 30_000;
/** How long the answer to a lost attempt may be held up by giving the attempt back. */
const GIVE_BACK_TIMEOUT_MS = 1_000;
/** How many connections of the pool may turn out to be dead as well, and the attempt is given back all the same. */
const GIVE_BACK_TRIES = 5;

export interface TransactionEngineParts extends EngineParts {
  readonly store: IdempotencyStore;
}

/**
 * The protocol of transaction mode, without HTTP and without SQL: acquire, then execute, replay or reject; after
 * executing, complete or release. The record and the handler's rows commit in one transaction.
 */
export class IdempotencyEngine implements Engine {
  readonly #finished = new FinishedKeys();

  constructor(private readonly parts: TransactionEngineParts) {}

  /** Executes the request under its key, or answers from the record. Never rejects. */
  async run({ identity }: EngineRequest, policy: AttemptPolicy, handler: RunHandler): Promise<EngineOutcome> {
    failpoint('before-claim');
    let acquired: Acquired;
    try {
      acquired = await takeTurn(this.parts.turns, identity, policy, (wait) =>
        acquire({ ...this.parts, finished: this.#finished }, identity, policy, wait),
      );
    } catch (cause) {
      // Fail closed: no store, no execution.
      return { kind: 'rejected', reason: 'store-unavailable', cause };
    }
    if (acquired.kind === 'owned') return this.#execute(identity, policy, acquired, handler);
    return answerFrom(acquired, identity, this.parts);
  }

  async #execute(
    identity: AttemptIdentity,
    policy: AttemptPolicy,
    { session, attempt: number, born, xid, expiresAtMs, takenOver }: Owned,
    handler: RunHandler,
  ): Promise<EngineOutcome> {
    const share = beginTurn(this.parts.turns, identity, () => !session.isLost);
    let shared: SharedOutcome = { kind: 'none' };
    try {
      const began = performance.now();
      if (takenOver) this.#emit({ type: 'taken-over', attempt: number, ...named(identity) });
      this.#emit({ type: 'claimed', attempt: number, ...named(identity) });
      failpoint('after-claim');
      const { store, dataSource, makeRunner } = this.parts;
      const undoHandler = store.undoHandler.bind(store);
      const attempt = new TransactionAttempt({
        identity,
        number,
        born,
        xid,
        session,
        dataSource,
        makeRunner,
        undoHandler,
      });
      const outcome = await this.#runHandler(attempt, policy, handler);
      const result = await this.#settle(attempt, outcome, expiresAtMs, () => share({ kind: 'none' }));
      if (result.kind === 'executed' && outcome.kind === 'final') {
        const { response } = outcome;
        this.#finished.add(identity.keyHash);
        shared = {
          kind: 'final',
          raised: outcome.status === 'error',
          response,
          ...(result.expiresAtMs === undefined ? {} : { expiresAtMs: result.expiresAtMs }),
        };
        const durationMs = performance.now() - began;
        const tombstone = response.body === null;
        const { status } = response;
        this.#emit({ type: 'completed', attempt: number, status, tombstone, durationMs, ...named(identity) });
        if (outcome.status === 'completed') this.parts.afterCommit(attempt.afterCommits);
      } else if (result.kind === 'released') {
        this.#emit({ type: 'released', attempt: number, error: result.error, ...named(identity) });
      }
      return result;
    } finally {
      share(shared);
    }
  }

  /** The handler's outcome, or a release as soon as its transaction is lost: there is nothing left to wait for. */
  #runHandler(
    attempt: TransactionAttempt,
    { maxRuntimeMs }: AttemptPolicy,
    handler: RunHandler,
  ): Promise<HandlerOutcome> {
    const { session } = attempt;
    return new Promise((resolve) => {
      const overdue = setTimeout(() => {
        session.destroy(
          new ConnectionLostError(`the attempt ran for longer than maxRuntime (${maxRuntimeMs} ms)`),
        );
      }, maxRuntimeMs);
      const end = (outcome: HandlerOutcome): void => {
        clearTimeout(overdue);
        resolve(outcome);
      };
      session.whenLost((error) => end({ kind: 'release', error }));
      // A storeIf that throws, for one: what cannot be judged is not final.
      attempt.run(() => handler(attempt)).then(end, (error: unknown) => end({ kind: 'release', error }));
    });
  }

  async #settle(
    attempt: TransactionAttempt,
    outcome: HandlerOutcome,
    expiresAtMs: number,
    leaveToRecord: () => void,
  ): Promise<EngineOutcome> {
    const { session } = attempt;
    const unfinished = attempt.settle();
    failpoint('handler-returned');
    if (session.isLost) return this.#lost(attempt, await session.lost);
    if (outcome.kind === 'release') return this.#release(attempt, outcome.error);
    // An error's rows are rolled back anyway; an answer must not be given for work that is half done.
    if (unfinished && outcome.status === 'completed') return this.#release(attempt, unfinished);

    const result = await this.#commit(session, () =>
      this.parts.store.complete(session, {
        keyHash: attempt.identity.keyHash,
        attempt: attempt.number,
        status: outcome.status,
        response: outcome.response,
        ...(outcome.status === 'error' ? { error: outcome.error } : {}),
        ...(areFailpointsArmed() ? { onSent: reachFailpoint } : {}),
      }),
    );
    switch (result.kind) {
      case 'committed':
        failpoint('committed');
        session.release();
        return { kind: 'executed', attempt: attempt.number, expiresAtMs };
      case 'refused':
        return this.#refused(attempt, result.cause);
      case 'unknown':
        // Duplicates need not wait until this process knows: the record may have the answer already.
        leaveToRecord();
        return this.#resolve(attempt, result.cause);
    }
  }

  /** PostgreSQL refused the commit, for instance by a deferred constraint: the handler's work is rolled back. */
  async #refused(attempt: TransactionAttempt, cause: unknown): Promise<EngineOutcome> {
    const { session } = attempt;
    if (session.isLost) return this.#lost(attempt, cause);
    // The transaction is over, and its lock with it; the release below is fenced by the attempt's number. Should it
    // fail, the record counts as abandoned, which frees the key too.
    try {
      await session.within(COMMIT_TIMEOUT_MS, session.query({ text: 'ROLLBACK' }));
      await session.within(COMMIT_TIMEOUT_MS, session.query({ text: this.parts.store.sql.BEGIN }));
      await session.within(COMMIT_TIMEOUT_MS, session.query({ text: this.parts.store.sql.SAVEPOINT }));
    } catch (error) {
      return this.#lost(attempt, error);
    }
    return this.#release(attempt, explainRefusal(cause), true);
  }

  /** Rolls back what the handler did and gives the key back, in one transaction with the row still locked. */
  async #release(
    attempt: TransactionAttempt,
    error: unknown,
    began = attempt.handlerBegan,
  ): Promise<EngineOutcome> {
    const { session } = attempt;
    const result = await this.#commit(session, () =>
      this.parts.store.release(session, { ...lifeOf(attempt), error, began }),
    );
    // The handler's error may be no more than the first sign of a lost connection.
    if (result.kind !== 'committed') return this.#lost(attempt, result.cause);
    session.release();
    return isTransactionConflict(error)
      ? { kind: 'failed', reason: 'transaction-conflict', cause: error }
      : { kind: 'released', error };
  }

  /**
   * The connection is gone, and with it the transaction: nothing was committed. This process is alive, though, so the
   * attempt is given back on another connection, as far as that can be done at once: `maxAttempts` counts requests
   * that kill their process, not a database that restarts.
   */
  async #lost(attempt: TransactionAttempt, cause: unknown): Promise<EngineOutcome> {
    attempt.session.destroy(cause instanceof Error ? cause : new ConnectionLostError(String(cause)));
    const deadline = new Deadline(GIVE_BACK_TIMEOUT_MS);
    for (let tries = 0; tries < GIVE_BACK_TRIES && deadline.remainingMs > 0; tries++) {
      if (await this.#giveBack(attempt, cause, deadline.remainingMs)) break;
    }
    return { kind: 'failed', reason: 'attempt-lost', cause };
  }

  /** Whether that could be tried to the end. Where it could not, the record counts as abandoned, and the key is free all the same. */
  async #giveBack(attempt: TransactionAttempt, error: unknown, openMs: number): Promise<boolean> {
    const { store } = this.parts;
    let session: Session | undefined;
    try {
      session = await store.open(openMs);
      const given = store.giveBack(session, { ...lifeOf(attempt), error, waitMs: GIVE_BACK_TIMEOUT_MS });
      await session.within(2 * GIVE_BACK_TIMEOUT_MS, given);
      return true;
    } catch {
      // What ended the attempt's connection may have ended others of the pool, which nobody has looked at since.
      return session !== undefined && !session.isLost;
    } finally {
      void session?.rollbackAndRelease(GIVE_BACK_TIMEOUT_MS);
    }
  }

  async #commit(session: Session, work: () => Promise<CommitResult>): Promise<CommitResult> {
    try {
      return await session.within(COMMIT_TIMEOUT_MS, work());
    } catch (cause) {
      // Past its deadline COMMIT may have been sent or not: nobody here can tell.
      return { kind: 'unknown', cause };
    }
  }

  /**
   * The answer to COMMIT was lost: neither success nor failure may be guessed. On a fresh connection it waits for the
   * row, whose lock ends with the old transaction, and adopts what is recorded.
   */
  async #resolve(attempt: TransactionAttempt, cause: unknown): Promise<EngineOutcome> {
    attempt.session.destroy(cause instanceof Error ? cause : new ConnectionLostError(String(cause)));
    const { identity, number } = attempt;
    const resolution = await resolveOutcome(this.parts.store, lifeOf(attempt));
    this.#emit({ type: 'unknown', attempt: number, resolution, ...named(identity) });
    switch (resolution) {
      case 'committed':
        return { kind: 'executed', attempt: number };
      case 'rolled-back':
        return { kind: 'failed', reason: 'attempt-lost', cause };
      case 'unresolved':
        return { kind: 'failed', reason: 'outcome-unknown', cause };
    }
  }

  #emit(event: IdempotencyEvent): void {
    this.parts.emit(event);
  }
}

function reachFailpoint(sent: 'record' | 'commit'): void {
  failpoint(sent === 'record' ? 'record-written' : 'commit-sent');
}

/** What tells an attempt from every other one, also from one of the same number in another life of its key. */
function lifeOf({ identity: { keyHash }, number: attempt, born, xid }: TransactionAttempt) {
  return { keyHash, attempt, born, xid };
}
