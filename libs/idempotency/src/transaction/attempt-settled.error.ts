/**
 * Thrown to code that uses the database through an attempt that is over: its transaction has been committed or rolled
 * back, so that the write could not be part of it. Await all work inside the handler, or run it through
 * `outsideAttempt()` when it is meant to be independent.
 */
export class AttemptSettledError extends Error {
  override readonly name = 'AttemptSettledError';
  constructor(operation: string) {
    super(
      `A statement was issued by ${operation} after its attempt had settled; it was not run. ` +
        'Await all database work inside the handler, or wrap independent work in outsideAttempt(() => …).',
    );
  }
}

/** The handler returned while statements or nested transactions it had started were still running. */
export class UnfinishedWorkError extends Error {
  override readonly name = 'UnfinishedWorkError';
  constructor(operation: string, what: string) {
    super(
      `The handler of ${operation} returned while ${what} it had started was still running, so the attempt was ` +
        'rolled back. Await all database work inside the handler, or wrap independent work in outsideAttempt(() => …).',
    );
  }
}

/** A statement that would end the attempt's own transaction. */
export class TransactionControlError extends Error {
  override readonly name = 'TransactionControlError';
  constructor(statement: string) {
    super(
      `${statement} was refused: the transaction belongs to the idempotent attempt, which commits it together with ` +
        'its record. Use dataSource.transaction() for a part that may be rolled back on its own.',
    );
  }
}

/** Transactions that overlap in a way a single connection cannot express. */
export class InterleavedTransactionError extends Error {
  override readonly name = 'InterleavedTransactionError';
}
