import type { DataSource, EntityManager, QueryRunner } from 'typeorm';
import type { AttemptIdentity } from '../store/identity.js';
import type { Session } from '../store/session.js';
import { AfterCommit } from './after-commit.js';
import { type AttemptContext, currentContext, runInContext } from './attempt-context.js';
import { type EndOfAccess, LeaseModeOnlyError, RepeatedHandlerError } from './attempt-settled.error.js';
import { downstreamKeyOf } from './downstream-key.js';
import { HandlerRun } from './handler-run.js';
import { joinedQueryRunner } from './joined-query-runner.js';
import type { RunningAttempt } from './running-attempt.js';

/** How a second run of the handler gets rid of what the first one wrote. The savepoint itself stays. */
export type UndoHandler = (session: Session) => Promise<void>;

export interface AttemptParts {
  readonly identity: AttemptIdentity;
  readonly number: number;
  /** When the record began, in microseconds. */
  readonly born: string;
  /** The transaction that holds the record; empty in a phase, which its journal entry tells of. */
  readonly xid: string;
  readonly session: Session;
  readonly dataSource: DataSource;
  readonly makeRunner: (mode: 'master') => QueryRunner;
  readonly undoHandler: UndoHandler;
}

/** The handler's side of an attempt in transaction mode: one connection, one transaction, everything joins it. */
export class TransactionAttempt implements RunningAttempt {
  readonly identity: AttemptIdentity;
  readonly number: number;
  readonly session: Session;
  readonly dataSource: DataSource;
  readonly afterCommits = new AfterCommit();
  #lost: AbortController | undefined;
  #run: HandlerRun;
  #began = false;
  /** Whether the handler began inside a transaction of an interceptor, which a rollback would end. */
  #isWrapped = false;
  #failure: Error | undefined;

  constructor(private readonly parts: AttemptParts) {
    const { identity, number, session, dataSource } = parts;
    this.identity = identity;
    this.number = number;
    this.session = session;
    this.dataSource = dataSource;
    this.#run = new HandlerRun(identity.operation);
  }

  get key(): string {
    return this.identity.key;
  }

  /** When its record began. */
  get born(): string {
    return this.parts.born;
  }

  /** The transaction that holds its record. */
  get xid(): string {
    return this.parts.xid;
  }

  get scope(): string {
    return this.identity.scope;
  }

  get manager(): EntityManager {
    const run = this.#runOfCaller();
    return (run.manager ??= this.queryRunner().manager);
  }

  get signal(): AbortSignal {
    // Made when it is asked for: most handlers never do.
    if (!this.#lost) {
      const lost = (this.#lost = new AbortController());
      this.session.whenLost((error) => lost.abort(error));
    }
    return this.#lost.signal;
  }

  downstreamKey(name: string): string {
    return downstreamKeyOf({ keyHash: this.identity.keyHash, born: this.born, name });
  }

  afterCommit(fn: () => unknown): void {
    this.#runOfCaller().assertActive();
    this.afterCommits.add(fn);
  }

  step(name: string): Promise<never> {
    return Promise.reject(new LeaseModeOnlyError(`step(${JSON.stringify(name)})`, this.identity.operation));
  }

  phase(name: string): Promise<never> {
    return Promise.reject(new LeaseModeOnlyError(`phase(${JSON.stringify(name)})`, this.identity.operation));
  }

  get handlerBegan(): boolean {
    return this.#began;
  }

  joinedRunner(dataSource: DataSource): QueryRunner | undefined {
    return dataSource === this.dataSource ? this.queryRunner() : undefined;
  }

  /** A query runner on the attempt's connection; every part of the handler gets one of its own. */
  queryRunner(): QueryRunner {
    const run = this.#runOfCaller();
    run.assertActive();
    const context = currentContext();
    const isAround = context?.attempt === this && context.run === undefined;
    return joinedQueryRunner({ attempt: this, run, isAround, runner: this.parts.makeRunner('master') });
  }

  /** Runs interceptors, pipes and the handler so that everything they call joins this attempt. */
  run<T>(work: () => T): T {
    return runInContext({ attempt: this, run: undefined, scope: this.#run.savepoints.root }, work);
  }

  /** What was done in it did not happen. */
  markRolledBack(): void {
    this.#run.savepoints.root.rolledBack = true;
  }

  /** Runs a phase: its code belongs to the transaction as a handler's does. */
  runInside<T>(work: () => T): T {
    return runInContext({ attempt: this, run: this.#run, scope: this.#run.savepoints.root }, work);
  }

  /**
   * Enters the controller method's body. An idempotent method that another one calls in process is a part of that.
   *
   * When an inner interceptor calls the handler again, the effect of the attempt is that of its last run: what the
   * one before wrote is rolled back first, and its code, should it still be going on, is shut out.
   *
   * @throws {RepeatedHandlerError} when the rollback would take more than the handler's own work; nothing is committed
   *   then.
   */
  enter(context: AttemptContext, handler: () => unknown): unknown {
    if (context.run) return handler();
    if (this.#began) return this.#enterAgain(context, handler);
    this.#began = true;
    this.#isWrapped = this.#run.savepoints.isNested;
    return runInContext({ ...context, run: this.#run }, handler);
  }

  async #enterAgain(context: AttemptContext, handler: () => unknown): Promise<unknown> {
    this.#run.assertActive();
    if (this.#isWrapped || this.#run.wroteAround) {
      this.#failure ??= new RepeatedHandlerError(this.identity.operation);
      throw this.#failure;
    }
    this.#run.end('an interceptor had run the handler again');
    const run = (this.#run = new HandlerRun(this.identity.operation));
    this.afterCommits.clear();
    await this.parts.undoHandler(this.session);
    run.assertActive();
    return runInContext({ ...context, run, scope: run.savepoints.root }, handler);
  }

  /**
   * Ends the handler's access: whatever it still issues throws.
   *
   * @returns why its rows must not be committed, although it returned.
   */
  settle(end: EndOfAccess = 'its attempt had settled'): Error | undefined {
    const unfinished = this.#run.end(end);
    return this.#failure ?? unfinished;
  }

  #runOfCaller(): HandlerRun {
    const context = currentContext();
    return (context?.attempt === this ? context.run : undefined) ?? this.#run;
  }
}
