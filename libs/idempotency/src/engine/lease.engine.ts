import type { IdempotencyEvent } from '../events/idempotency-event.js';
import { failpoint } from '../failpoint.js';
import { Heartbeat } from '../lease/heartbeat.js';
import { LeaseAttempt } from '../lease/lease-attempt.js';
import type { ErrorCodec } from '../lease/step-codec.js';
import { untilAnswered } from '../lease/until-answered.js';
import type { AttemptIdentity } from '../store/identity.js';
import type { Fence, LeaseStore } from '../store/lease.store.js';
import type { Session } from '../store/session.js';
import { withSession } from '../store/with-session.js';
import { isTransactionConflict } from '../store/sql-state.js';
import { acquireLease, type Leased, mayTakeOver } from './acquire-lease.js';
import { type Answered, conclude } from './answered.js';
import { Deadline } from './deadline.js';
import { answerFrom, type EngineParts, named } from './engine-parts.js';
import type { SharedOutcome } from './in-flight.registry.js';
import type { Engine, EngineOutcome, EngineRequest, HandlerOutcome, RunHandler } from './outcomes.js';
import type { AttemptPolicy } from './policy.js';
import { beginTurn, takeTurn } from './take-turn.js';

/** How long an outcome is tried to be recorded, on one connection after another. */
const RECORD_TIMEOUT_MS = 10_000;

export interface LeaseEngineParts extends EngineParts {
  readonly store: LeaseStore;
  readonly errors: ErrorCodec;
}

/** One execution, with what its pieces share. */
interface Execution {
  readonly identity: AttemptIdentity;
  readonly policy: AttemptPolicy;
  readonly fence: Fence;
  /** The record was abandoned: nobody knows how far the attempt before it came. */
  readonly resumed: boolean;
  readonly attempt: LeaseAttempt;
  readonly heartbeat: Heartbeat;
  readonly began: number;
}

/** What became of a fenced write; `done` is what it answered, where its own answer came. */
type Written<T> =
  | { readonly kind: 'written'; readonly done?: T }
  | { readonly kind: 'stale' }
  | { readonly kind: 'unknown'; readonly cause: unknown };

/**
 * The protocol of lease mode: claim durably, keep the lease while the handler runs, record its outcome. No connection is held
 * in between. Every write is fenced: an attempt that has lost its lease changes nothing, and its caller is answered from
 * the record.
 */
export class LeaseEngine implements Engine {
  readonly #running = new Set<Heartbeat>();

  constructor(private readonly parts: LeaseEngineParts) {}

  async run(request: EngineRequest, policy: AttemptPolicy, handler: RunHandler): Promise<EngineOutcome> {
    const { identity } = request;
    failpoint('before-claim');
    let acquired: Leased | Answered;
    try {
      acquired = await takeTurn(this.parts.turns, identity, policy, (wait) =>
        acquireLease(this.parts, request, policy, wait),
      );
    } catch (cause) {
      // Fail closed: no store, no execution.
      return { kind: 'rejected', reason: 'store-unavailable', cause };
    }
    if (acquired.kind === 'claimed') return this.#execute(identity, policy, acquired, handler);
    return answerFrom(acquired, identity, this.parts);
  }

  /** Ends every heartbeat of this process: what is still running loses its lease in its time. */
  stop(): void {
    for (const heartbeat of this.#running) heartbeat.stop();
  }

  async #execute(
    identity: AttemptIdentity,
    policy: AttemptPolicy,
    { fence, resumed, journal, sentAt }: Leased,
    handler: RunHandler,
  ): Promise<EngineOutcome> {
    const share = beginTurn(this.parts.turns, identity, () => heartbeat.isCertain);
    const ended = new AbortController();
    const heartbeat = this.#heartbeat(identity, policy, fence, sentAt, () => {
      ended.abort(new Error('the lease was lost'));
      // The record is another attempt's to speak of.
      share({ kind: 'none' });
    });
    if (resumed) this.#emit({ type: 'taken-over', attempt: fence.attempt, ...named(identity) });
    this.#emit({ type: 'claimed', attempt: fence.attempt, ...named(identity) });
    failpoint('after-claim');
    const attempt = new LeaseAttempt({
      ...this.parts,
      identity,
      fence,
      journal,
      heartbeat,
      signal: ended.signal,
      leaseMs: policy.leaseMs,
      maxRuntimeMs: policy.maxRuntimeMs,
      acquireTimeoutMs: this.parts.settings.acquireTimeoutMs,
    });
    const execution = { identity, policy, fence, resumed, attempt, heartbeat, began: performance.now() };

    const settled = attempt
      .run(() => handler(attempt))
      // A storeIf that throws, for one: what cannot be judged is not final.
      .catch((error: unknown): HandlerOutcome => ({ kind: 'release', error }))
      .then((outcome) => this.#settle(execution, outcome, share))
      .finally(() => {
        heartbeat.stop();
        this.#running.delete(heartbeat);
        share({ kind: 'none' });
      });
    return this.#withinRuntime(execution, settled, ended, share);
  }

  /**
   * The outcome, or that it is unknown, when maxRuntime is over: a handler cannot be stopped from outside. The lease is not
   * renewed any more; should the handler come to its end before another attempt begins, that is recorded still.
   */
  async #withinRuntime(
    execution: Execution,
    settled: Promise<EngineOutcome>,
    ended: AbortController,
    share: (outcome: SharedOutcome) => void,
  ): Promise<EngineOutcome> {
    const { policy, heartbeat } = execution;
    const deadline = new Deadline(policy.maxRuntimeMs);
    const outcome = await deadline.race(settled);
    if (outcome !== 'over') return outcome;
    const cause = new Error(`the attempt ran for longer than maxRuntime (${policy.maxRuntimeMs} ms)`);
    heartbeat.stop();
    ended.abort(cause);
    share({ kind: 'none' });
    void settled.catch(() => undefined);
    return this.#unknown(execution, cause);
  }

  #unknown({ identity, fence }: Execution, cause: unknown): EngineOutcome {
    this.#emit({ type: 'unknown', attempt: fence.attempt, resolution: 'unresolved', ...named(identity) });
    return { kind: 'failed', reason: 'outcome-unknown', cause };
  }

  async #settle(
    execution: Execution,
    outcome: HandlerOutcome,
    share: (outcome: SharedOutcome) => void,
  ): Promise<EngineOutcome> {
    const { attempt, identity, policy, fence, heartbeat, began } = execution;
    const unfinished = attempt.settle();
    heartbeat.finish();
    failpoint('handler-returned');
    if (outcome.kind === 'release') return this.#giveBack(execution, outcome.error);
    // An answer must not be recorded for work that is half done, nor one that leaves out what was done before.
    if (unfinished) return this.#giveBack(execution, unfinished);
    const written = await this.#write(execution, (session) =>
      this.parts.store.complete(session, fence, outcome, policy.ttlMs),
    );
    if (written.kind === 'stale') return this.#adopt(execution, outcome);
    if (written.kind === 'unknown') return this.#unknown(execution, written.cause);
    failpoint('committed');
    const { response } = outcome;
    share({ kind: 'final', raised: outcome.status === 'error', response, ...written.done });
    this.#emit({
      type: 'completed',
      attempt: fence.attempt,
      status: response.status,
      tombstone: response.body === null,
      durationMs: performance.now() - began,
      ...named(identity),
    });
    if (outcome.status === 'completed') this.parts.afterCommit(attempt.afterCommits);
    return { kind: 'executed', attempt: fence.attempt };
  }

  /**
   * The attempt came to no final outcome. With nothing done the key is given back. With something that is done for good, or may
   * be, by an attempt before it too, or with a route that is never run twice by itself, the record stays pending: it goes on from
   * its journal, or a person decides.
   */
  async #giveBack(execution: Execution, error: unknown): Promise<EngineOutcome> {
    const { attempt, identity, fence, resumed, heartbeat, policy } = execution;
    const { store } = this.parts;
    await attempt.idle();
    // A renewal after the record was left would keep it from the next attempt.
    heartbeat.stop();
    const hasEffect =
      resumed || attempt.mayHaveEffect || (policy.onAbandoned === 'fail' && attempt.handlerBegan);
    const isForgotten = !hasEffect && !attempt.handlerBegan && fence.attempt === 1;
    const giveBack = (session: Session): Promise<boolean> => {
      if (hasEffect) return store.abandon(session, fence, error);
      return isForgotten ? store.forget(session, fence) : store.release(session, fence, error);
    };
    const written = await this.#write(execution, giveBack, isForgotten);
    if (written.kind === 'stale') return this.#adopt(execution);
    // Not written: then the lease runs out, which comes to the same a little later. The handler's error is the answer.
    if (written.kind === 'written') {
      const type = hasEffect ? 'abandoned' : 'released';
      this.#emit({ type, attempt: fence.attempt, error, ...named(identity) });
    }
    return isTransactionConflict(error)
      ? { kind: 'failed', reason: 'transaction-conflict', cause: error }
      : { kind: 'released', error };
  }

  /** The record is another attempt's, or decided: what stands there is the answer. */
  async #adopt(execution: Execution, own?: HandlerOutcome): Promise<EngineOutcome> {
    const { identity, policy, heartbeat } = execution;
    const { store, settings } = this.parts;
    heartbeat.lost();
    let answer: Answered | 'again';
    try {
      const record = await withSession(store, settings.acquireTimeoutMs, (session) =>
        store.read(session, identity),
      );
      answer = mayTakeOver(record, policy) ? 'again' : conclude(record);
    } catch (cause) {
      return { kind: 'failed', reason: 'outcome-unknown', cause };
    }
    if (answer === 'again') {
      const cause = new Error(`the record was ${own ? 'decided' : 'left'} by another attempt`);
      return { kind: 'failed', reason: 'outcome-unknown', cause };
    }
    return answerFrom(answer, identity, this.parts);
  }

  /**
   * Writes through the fence, on one connection after another until it is answered: sent twice, the second finds the
   * first, and is told from another attempt's write by the number that stands in the record, or by its absence.
   */
  async #write<T extends object | boolean>(
    { fence }: Execution,
    write: (session: Session) => Promise<T | false>,
    removes = false,
  ): Promise<Written<T>> {
    const { settings, store } = this.parts;
    try {
      return await untilAnswered(RECORD_TIMEOUT_MS, (isRepeated) =>
        withSession(store, settings.acquireTimeoutMs, async (session) => {
          const sent = write(session);
          failpoint('commit-sent');
          const done = await sent;
          if (done !== false) return { kind: 'written', done };
          const isOwn = isRepeated && (await store.isWritten(session, fence)) !== removes;
          return { kind: isOwn ? 'written' : 'stale' };
        }),
      );
    } catch (cause) {
      return { kind: 'unknown', cause };
    }
  }

  #heartbeat(
    identity: AttemptIdentity,
    policy: AttemptPolicy,
    fence: Fence,
    sentAt: number,
    onLost: () => void,
  ): Heartbeat {
    const { leaseMs } = policy;
    const { settings, store } = this.parts;
    // A renewal that takes longer than the lease is none.
    const timeoutMs = Math.max(50, Math.min(settings.acquireTimeoutMs, leaseMs));
    const parts = {
      leaseMs,
      renew: () => withSession(store, timeoutMs, (session) => store.renew(session, fence, leaseMs)),
      onLost: () => {
        onLost();
        this.#emit({ type: 'lease-lost', attempt: fence.attempt, ...named(identity) });
      },
      onError: (error: unknown) => {
        this.#emit({ type: 'renewal-failed', attempt: fence.attempt, error, ...named(identity) });
      },
    };
    const heartbeat = new Heartbeat(parts, sentAt);
    this.#running.add(heartbeat);
    return heartbeat;
  }

  #emit(event: IdempotencyEvent): void {
    this.parts.emit(event);
  }
}
