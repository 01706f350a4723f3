import type { EntityManager } from 'typeorm';
import { AttemptSettledError, type EndOfAccess, UnfinishedWorkError } from './attempt-settled.error.js';
import { SavepointStack } from './savepoint-stack.js';

/** How long a statement may wait for a nested transaction beside it before that counts as a deadlock of the handler. */
const NESTED_WAIT_MS = 5_000;

/**
 * One call of the handler within an attempt, and what of the transaction belongs to it. There is a second call only
 * when an inner interceptor makes one, as rxjs' `retry` does.
 */
export class HandlerRun {
  readonly savepoints = new SavepointStack(NESTED_WAIT_MS);
  /** What the attempt's `manager` gives to this run. */
  manager: EntityManager | undefined;
  #running = 0;
  #wroteAround = false;
  #ended: EndOfAccess | undefined;

  constructor(private readonly operation: string) {}

  /** Whether interceptors or pipes have written meanwhile: a rollback of the run would take that along. */
  get wroteAround(): boolean {
    return this.#wroteAround;
  }

  /** Counts a statement from being asked for to being answered, so that a handler cannot return before it. */
  track<T>(statement: () => Promise<T>, writesAround = false): Promise<T> {
    const refusal = this.refusal();
    if (refusal) return Promise.reject(refusal);
    this.#wroteAround ||= writesAround;
    this.#running++;
    return statement().then(
      (answer) => {
        this.#running--;
        return answer;
      },
      (error: unknown) => {
        this.#running--;
        throw error;
      },
    );
  }

  /**
   * Ends the run's access to the transaction: whatever its code still issues throws.
   *
   * @returns why its rows must not be committed, although it returned: work it did not wait for may be half done.
   */
  end(because: EndOfAccess): Error | undefined {
    this.#ended ??= because;
    if (this.savepoints.poisonedBy) return this.savepoints.poisonedBy;
    if (this.savepoints.isNested) return new UnfinishedWorkError(this.operation, 'a nested transaction');
    if (this.#running > 0) return new UnfinishedWorkError(this.operation, `${this.#running} statement(s)`);
    return undefined;
  }

  /** @throws {AttemptSettledError} once the run has ended. */
  assertActive(): void {
    const refusal = this.refusal();
    if (refusal) throw refusal;
  }

  /** Why nothing more may be done in it, once it has ended. */
  refusal(): AttemptSettledError | undefined {
    return this.#ended && new AttemptSettledError(this.operation, this.#ended);
  }
}
