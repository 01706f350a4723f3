import { AsyncLocalStorage } from 'node:async_hooks';
import type { HandlerRun } from './handler-run.js';
import type { RunningAttempt } from './running-attempt.js';
import type { Scope } from './savepoint-stack.js';

/** What code running inside an attempt carries along. */
export interface AttemptContext {
  readonly attempt: RunningAttempt;
  /** The call of the handler that the code belongs to; `undefined` in the interceptors and pipes around it. */
  readonly run: HandlerRun | undefined;
  /** The nested transaction whose callback is running, or the attempt's own. */
  readonly scope: Scope;
}

/** One storage per process: two copies of the package would otherwise not see each other's attempts. */
const storage: AsyncLocalStorage<AttemptContext | undefined> = ((
  globalThis as unknown as Record<symbol, AsyncLocalStorage<AttemptContext | undefined> | undefined>
)[Symbol.for('nestjs-pg-idempotency:attempt')] ??= new AsyncLocalStorage<AttemptContext | undefined>());

export function currentContext(): AttemptContext | undefined {
  return storage.getStore();
}

export function runInContext<T>(context: AttemptContext, work: () => T): T {
  return storage.run(context, work);
}

/**
 * Runs `work` outside the current attempt: its statements use connections of the pool, commit on their own and outlive
 * the attempt. For work that must not share the attempt's fate, as an audit trail or a background job started by the
 * handler. What it writes may happen again when the request is retried.
 */
export function outsideAttempt<T>(work: () => T): T {
  // Not exit(), which turns the storage off and on again: with the hooks that follow promises that costs more than a statement.
  return storage.run(undefined, work);
}
