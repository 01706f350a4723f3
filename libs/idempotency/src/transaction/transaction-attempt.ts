import type { DataSource, EntityManager, QueryRunner } from 'typeorm';
import type { AttemptIdentity } from '../store/identity.js';
import type { Session } from '../store/session.js';
import { AttemptSettledError, UnfinishedWorkError } from './attempt-settled.error.js';
import { runInContext } from './attempt-context.js';
import type { Attempt } from './attempt.js';
import { joinedQueryRunner } from './joined-query-runner.js';
import { SavepointStack } from './savepoint-stack.js';

/** How long a statement may wait for a nested transaction beside it before that counts as a deadlock of the handler. */
const NESTED_WAIT_MS = 5_000;

/** The handler's side of an attempt in transaction mode: one connection, one transaction, everything joins it. */
export class TransactionAttempt implements Attempt {
  readonly savepoints = new SavepointStack(NESTED_WAIT_MS);
  /** Set when the controller method's own body was entered: pipes and inner interceptors run before it. */
  handlerBegan = false;
  #running = 0;
  #settled = false;
  #manager: EntityManager | undefined;

  constructor(
    readonly identity: AttemptIdentity,
    readonly number: number,
    readonly session: Session,
    readonly dataSource: DataSource,
    private readonly makeRunner: (mode: 'master') => QueryRunner,
  ) {}

  get key(): string {
    return this.identity.key;
  }

  get scope(): string {
    return this.identity.scope;
  }

  get manager(): EntityManager {
    return (this.#manager ??= this.queryRunner().manager);
  }

  get isSettled(): boolean {
    return this.#settled;
  }

  /** A query runner on the attempt's connection; every part of the handler gets one of its own. */
  queryRunner(): QueryRunner {
    this.assertActive();
    return joinedQueryRunner(this, this.makeRunner('master'));
  }

  /** Runs the handler so that everything it calls joins this attempt. */
  run<T>(handler: () => T): T {
    return runInContext({ attempt: this, scope: this.savepoints.root }, handler);
  }

  /** Counts a statement from being asked for to being answered, so that a handler cannot return before it. */
  async track<T>(statement: () => Promise<T>): Promise<T> {
    this.assertActive();
    this.#running++;
    try {
      return await statement();
    } finally {
      this.#running--;
    }
  }

  /**
   * Ends the handler's access: whatever it still issues throws.
   *
   * @returns why its rows must not be committed, although it returned: work it did not wait for may be half done.
   */
  settle(): Error | undefined {
    const { operation } = this.identity;
    this.#settled = true;
    if (this.savepoints.poisonedBy) return this.savepoints.poisonedBy;
    if (this.savepoints.isNested) return new UnfinishedWorkError(operation, 'a nested transaction');
    if (this.#running > 0) return new UnfinishedWorkError(operation, `${this.#running} statement(s)`);
    return undefined;
  }

  assertActive(): void {
    if (this.#settled) throw new AttemptSettledError(this.identity.operation);
  }
}
