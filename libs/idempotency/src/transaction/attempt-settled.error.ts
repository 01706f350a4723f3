/** What ends a handler's access to the attempt's transaction. */
export type EndOfAccess =
  'its attempt had settled' | 'its phase had ended' | 'an interceptor had run the handler again';

/**
 * Thrown to code that uses the database through an attempt that is over: its transaction has been committed or rolled
 * back, so that the write could not be part of it. Await all work inside the handler, or run it through
 * `outsideAttempt()` when it is meant to be independent.
 */
export class AttemptSettledError extends Error {
  override readonly name = 'AttemptSettledError';
  constructor(operation: string, end: EndOfAccess) {
    super(
      `A statement, step or phase was issued by ${operation} after ${end}; it was not run. ` +
        'Await all work inside the handler, or wrap independent work in outsideAttempt(() => …).',
    );
  }
}

/** The handler returned while statements or nested transactions it had started were still running. */
export class UnfinishedWorkError extends Error {
  override readonly name = 'UnfinishedWorkError';
  constructor(operation: string, what: string) {
    super(
      `The handler of ${operation} returned while ${what} it had started was still running, so the attempt was ` +
        'rolled back. Await all work inside the handler, or wrap independent work in outsideAttempt(() => …).',
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

/**
 * An interceptor ran the handler a second time, and what the first run wrote cannot be undone alone, because
 * interceptors had written, or opened a transaction, around it.
 */
export class RepeatedHandlerError extends Error {
  override readonly name = 'RepeatedHandlerError';
  constructor(operation: string) {
    super(
      `An interceptor ran the handler of ${operation} again after interceptors had written to the database or opened a ` +
        'transaction around it; the attempt was rolled back. Write in the handler, or in outsideAttempt(() => …), or let the ' +
        'client retry.',
    );
  }
}

/** A step or phase in transaction mode, which has no journal: its handler's rows commit, or do not, as one. */
export class LeaseModeOnlyError extends Error {
  override readonly name = 'LeaseModeOnlyError';
  constructor(call: string, operation: string) {
    super(
      `${call} was called by ${operation}, which runs in transaction mode and has no steps. Declare the route with ` +
        "@Idempotent({ mode: 'lease' }), or call the function itself.",
    );
  }
}
