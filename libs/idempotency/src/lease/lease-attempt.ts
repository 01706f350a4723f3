import { AsyncLocalStorage } from 'node:async_hooks';
import type { DataSource, EntityManager, QueryRunner } from 'typeorm';
import { failpoint } from '../failpoint.js';
import type { AttemptIdentity } from '../store/identity.js';
import type { JournalEntry } from '../store/journal-entry.js';
import type { Fence, LeaseStore } from '../store/lease.store.js';
import { withSession } from '../store/with-session.js';
import { AfterCommit } from '../transaction/after-commit.js';
import { type AttemptContext, currentContext, runInContext } from '../transaction/attempt-context.js';
import { AttemptSettledError, UnfinishedWorkError } from '../transaction/attempt-settled.error.js';
import { downstreamKeyOf } from '../transaction/downstream-key.js';
import { HandlerRun } from '../transaction/handler-run.js';
import type { MakeRunner } from '../transaction/join-data-source.js';
import type { Journaled, StepOptions } from '../transaction/journaled.js';
import type { RunningAttempt } from '../transaction/running-attempt.js';
import type { TransactionAttempt } from '../transaction/transaction-attempt.js';
import type { Heartbeat } from './heartbeat.js';
import { Journal, type Visit } from './journal.js';
import {
  LeaseLostError,
  PhaseOutcomeUnknownError,
  StepNotJournaledError,
  StepOrderError,
} from './lease.errors.js';
import { runPhase } from './phase.js';
import { decodeResult, encodeResult, type ErrorCodec } from './step-codec.js';
import { untilAnswered } from './until-answered.js';

/** How long a step that is done is tried to be journaled, on one connection after another. */
const JOURNAL_TIMEOUT_MS = 10_000;

export interface LeaseAttemptParts {
  readonly store: LeaseStore;
  readonly dataSource: DataSource;
  readonly makeRunner: MakeRunner;
  readonly errors: ErrorCodec;
  readonly identity: AttemptIdentity;
  readonly fence: Fence;
  readonly journal: readonly JournalEntry[];
  readonly heartbeat: Heartbeat;
  /** Aborted when the attempt may not go on. */
  readonly signal: AbortSignal;
  readonly leaseMs: number;
  readonly maxRuntimeMs: number;
  readonly acquireTimeoutMs: number;
}

/** The step or phase that code is in, with the attempt it belongs to: that of another attempt says nothing about it. */
interface OpenPiece {
  readonly attempt: LeaseAttempt;
  readonly kind: JournalEntry['kind'];
  readonly name: string;
  /** Of a phase, once it is open. */
  transaction?: TransactionAttempt;
}

const openPiece = new AsyncLocalStorage<OpenPiece>();

/** The handler's side of an attempt in lease mode: no transaction and no connection, but steps, phases and a journal. */
export class LeaseAttempt implements RunningAttempt {
  readonly afterCommits = new AfterCommit();
  readonly #journal: Journal;
  #run: HandlerRun;
  #began = false;
  #isSettled = false;
  /** A step that fails may have reached the other system all the same, and a phase may have been committed. */
  #mayHaveActed = false;
  /** Steps and phases that run. */
  readonly #running = new Set<Promise<unknown>>();
  /** Tail of what needs the record's row to itself: phases, and the entries of steps. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(private readonly parts: LeaseAttemptParts) {
    this.#journal = new Journal(parts.identity.operation, parts.journal);
    this.#run = new HandlerRun(parts.identity.operation);
  }

  get key(): string {
    return this.parts.identity.key;
  }

  get scope(): string {
    return this.parts.identity.scope;
  }

  get number(): number {
    return this.parts.fence.attempt;
  }

  get manager(): EntityManager {
    return this.#openPiece()?.transaction?.manager ?? this.parts.dataSource.manager;
  }

  get signal(): AbortSignal {
    return this.parts.signal;
  }

  get handlerBegan(): boolean {
    return this.#began;
  }

  /** Whether something of the handler is done for good, by this attempt or one before, or may be: a failed step, an unanswered phase. */
  get mayHaveEffect(): boolean {
    return this.#mayHaveActed || !this.#journal.isEmpty;
  }

  /** Outside a phase, repositories work on the pool as they always do; inside one, its transaction is the context. */
  joinedRunner(): QueryRunner | undefined {
    return undefined;
  }

  downstreamKey(name: string): string {
    const { keyHash, born } = this.parts.fence;
    return downstreamKeyOf({ keyHash, born, name });
  }

  afterCommit(fn: () => unknown): void {
    this.#assertActive();
    this.afterCommits.add(fn);
  }

  /** Runs interceptors, pipes and the handler so that they find this attempt. */
  run<T>(work: () => T): T {
    return runInContext({ attempt: this, run: undefined, scope: this.#run.savepoints.root }, work);
  }

  /** Enters the controller method's body; when an inner interceptor calls it again, its steps are found in the journal. */
  enter(context: AttemptContext, handler: () => unknown): unknown {
    if (context.run) return handler();
    if (this.#began) return this.#enterAgain(context, handler);
    this.#began = true;
    return runInContext({ ...context, run: this.#run }, handler);
  }

  async #enterAgain(context: AttemptContext, handler: () => unknown): Promise<unknown> {
    this.#assertActive();
    this.#run.end('an interceptor had run the handler again');
    const run = (this.#run = new HandlerRun(this.parts.identity.operation));
    this.afterCommits.clear();
    // What the run before is still doing, as after a timeout of the interceptor, would else be done beside it once more.
    await this.idle();
    this.#assertActive();
    run.assertActive();
    this.#journal.restart();
    return runInContext({ ...context, run, scope: run.savepoints.root }, handler);
  }

  async step<T>(
    name: string,
    fn: () => T,
    { isFinal = () => false }: StepOptions = {},
  ): Promise<Journaled<Awaited<T>>> {
    const visit = this.#visit('step', name);
    if (visit.entry) return this.#recall(visit.entry) as Journaled<Awaited<T>>;
    return this.#tracked(async () => {
      await this.#assertHeld();
      failpoint('step-begins');
      this.#mayHaveActed = true;
      let entry: JournalEntry;
      let cause: unknown;
      try {
        const value: unknown = await openPiece.run({ attempt: this, kind: 'step', name }, fn);
        entry = { ...this.#entryOf(visit), raised: false, ...this.#encode(name, value) };
      } catch (error) {
        if (error instanceof StepNotJournaledError || !isFinal(error)) throw error;
        cause = error;
        entry = {
          ...this.#entryOf(visit),
          raised: true,
          ...this.#encode(name, this.parts.errors.encode(error)),
        };
      }
      failpoint('step-done');
      await this.#inTurn(() => this.#journalStep(entry));
      failpoint('step-journaled');
      this.#journal.add(entry);
      return this.#recall(entry, cause) as Journaled<Awaited<T>>;
    });
  }

  async phase<T>(name: string, fn: () => T): Promise<Journaled<Awaited<T>>> {
    const visit = this.#visit('phase', name);
    if (visit.entry) return this.#recall(visit.entry) as Journaled<Awaited<T>>;
    return this.#tracked(() =>
      this.#inTurn(async () => {
        await this.#assertHeld();
        const { heartbeat } = this.parts;
        const sentAt = performance.now();
        const phase: OpenPiece = { attempt: this, kind: 'phase', name };
        const onOpen = (transaction: TransactionAttempt): void => void (phase.transaction = transaction);
        const hold = (): Promise<() => void> => heartbeat.hold();
        try {
          const entry = await openPiece.run(phase, () =>
            runPhase({ ...this.parts, hold, onOpen }, visit, fn),
          );
          heartbeat.renewed(sentAt);
          this.#journal.add(entry);
          return this.#recall(entry) as Journaled<Awaited<T>>;
        } catch (error) {
          if (error instanceof LeaseLostError) heartbeat.lost();
          if (error instanceof PhaseOutcomeUnknownError) this.#mayHaveActed = true;
          throw error;
        }
      }),
    );
  }

  /**
   * Ends the handler's access: a step or phase that it still begins throws.
   *
   * @returns why its outcome must not be recorded, although it came to one.
   */
  settle(): Error | undefined {
    this.#isSettled = true;
    if (this.#running.size > 0) {
      return new UnfinishedWorkError(
        this.parts.identity.operation,
        `${this.#running.size} step(s) or phase(s)`,
      );
    }
    return this.#began ? this.#journal.skipped : undefined;
  }

  /** Waits for the steps and phases that run: the next attempt must not do beside them what they are doing. */
  async idle(): Promise<void> {
    await Promise.allSettled(this.#running);
  }

  #visit(kind: JournalEntry['kind'], name: string): Visit {
    this.#assertActive();
    const outer = this.#openPiece();
    if (outer) {
      // A later attempt would find the outer one done, and never come to the inner one that the journal tells of.
      const inside = `inside the ${outer.kind} ${JSON.stringify(outer.name)}`;
      throw new StepOrderError(
        this.parts.identity.operation,
        `the ${kind} ${JSON.stringify(name)} was begun ${inside}`,
      );
    }
    return this.#journal.visit(kind, name);
  }

  #assertActive(): void {
    const { operation } = this.parts.identity;
    if (this.#isSettled) throw new AttemptSettledError(operation, 'its attempt had settled');
    const context = currentContext();
    if (context?.attempt === this) context.run?.assertActive();
  }

  #openPiece(): OpenPiece | undefined {
    const piece = openPiece.getStore();
    return piece?.attempt === this ? piece : undefined;
  }

  /**
   * Before an effect: a process that was frozen may have lost its lease and not know it yet.
   *
   * Fail closed: without an answer nothing runs.
   */
  async #assertHeld(): Promise<void> {
    const { heartbeat } = this.parts;
    if (heartbeat.isCertain) return;
    if (heartbeat.isStopped || !(await heartbeat.renew())) throw this.#lost();
  }

  #lost(): LeaseLostError {
    return new LeaseLostError(this.parts.identity.operation, this.number);
  }

  #entryOf({ name, kind, position }: Visit): Pick<JournalEntry, 'name' | 'kind' | 'position' | 'attempt'> {
    return { name, kind, position, attempt: this.number };
  }

  #encode(name: string, value: unknown): ReturnType<typeof encodeResult> {
    try {
      return encodeResult(value);
    } catch (cause) {
      throw new StepNotJournaledError(this.parts.identity.operation, name, { cause });
    }
  }

  /** The result of an entry; every attempt gets it from here, the one that made it too. */
  #recall(entry: JournalEntry, cause?: unknown): unknown {
    const value = decodeResult(entry);
    if (entry.raised) throw this.parts.errors.decode(value, cause);
    return value;
  }

  async #tracked<T>(work: () => Promise<T>): Promise<T> {
    const running = work();
    this.#running.add(running);
    try {
      return await running;
    } finally {
      this.#running.delete(running);
    }
  }

  /** One at a time: each needs the record's row, and would wait for the other with a connection in hand. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  /**
   * Writes a step's entry. What the step did is done: it is tried until it stands. A try whose answer was lost is found by the
   * next one.
   */
  async #journalStep(entry: JournalEntry): Promise<void> {
    const { store, fence, leaseMs, acquireTimeoutMs, heartbeat, identity } = this.parts;
    let sentAt = 0;
    const written = await untilAnswered(JOURNAL_TIMEOUT_MS, () => {
      sentAt = performance.now();
      return withSession(store, acquireTimeoutMs, (session) =>
        store.journalStep(session, fence, entry, leaseMs),
      );
    }).catch((cause: unknown) => {
      throw new StepNotJournaledError(identity.operation, entry.name, { cause });
    });
    if (!written) {
      heartbeat.lost();
      throw this.#lost();
    }
    heartbeat.renewed(sentAt);
  }
}
