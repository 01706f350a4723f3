import type { EntityManager } from 'typeorm';
import type { Journaled, StepOptions } from './journaled.js';

/** One execution of a handler for a record, as `@CurrentAttempt()` gives it to the handler. */
export interface Attempt {
  /** The idempotency key as the client sent it, without quotes. */
  readonly key: string;
  /** Namespace of the key: the user or tenant; empty when the route shares one. */
  readonly scope: string;
  /** Number of this attempt for its record, from 1; it only grows. A fencing token to hand to other systems. */
  readonly number: number;
  /**
   * The transaction that repositories join without being told. In transaction mode the handler's rows and the record commit
   * in it; in lease mode it is the phase's inside one, and elsewhere a manager on the pool, where each statement commits
   * by itself.
   */
  readonly manager: EntityManager;
  /**
   * Aborted when the attempt may not go on: its lease was lost to another attempt, or `maxRuntime` is over. Hand it to
   * `fetch()` and the like. In transaction mode: when the transaction is lost.
   */
  readonly signal: AbortSignal;

  /**
   * A key for another system's own idempotency, as a payment provider's: the same in every attempt of this record,
   * another one for every record and name. A UUID (version 8, RFC 9562).
   *
   * @param name what it is for, as the step's name.
   */
  downstreamKey(name: string): string;

  /**
   * Runs `fn` once the final outcome is committed, outside the attempt, without holding up the answer. Not for an outcome that
   * is an error, nor for a transaction or phase that was rolled back.
   *
   * Best effort: it is lost with the process, and never run again. Work that must happen is enqueued in the
   * transaction instead. What it throws is logged.
   */
  afterCommit(fn: () => unknown): void;

  /**
   * Lease mode: a piece of the handler with an effect outside the database. `fn` runs at most once to its end: its result
   * is journaled, and later attempts get it without running `fn`. An attempt that dies between effect and journal leaves
   * `fn` to run again, so hand {@link downstreamKey} to the other system.
   *
   * @param name unique within the handler; the same steps in the same order in every attempt. 1 to 200 characters.
   * @returns the result as JSON gives it back, the first time too: a Date is a string. Bytes stay bytes.
   * @throws what `fn` throws, which is not journaled unless `isFinal` says so.
   * @throws {LeaseLostError} when the record belongs to another attempt. Nothing of this attempt counts any more.
   * @throws {StepOrderError} for a name that was used already, an order other than the journal's, and inside another step or
   *   phase.
   * @throws {StepNotJournaledError} when `fn` is done but could not be journaled.
   * @throws {LeaseModeOnlyError} in transaction mode.
   */
  step<T>(name: string, fn: () => T, options?: StepOptions): Promise<Journaled<Awaited<T>>>;

  /**
   * Lease mode: a piece of the handler whose effect is in the database. `fn` runs in a transaction that repositories join;
   * its rows and its journal entry commit together, so its effect happens exactly once. It holds a connection and the
   * record meanwhile: keep other systems out of it. Phases run one at a time, and no step or phase inside another.
   *
   * @throws as {@link step}; an error of `fn` rolls its rows back.
   */
  phase<T>(name: string, fn: () => T): Promise<Journaled<Awaited<T>>>;
}
