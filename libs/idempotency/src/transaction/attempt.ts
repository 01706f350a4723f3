import type { EntityManager } from 'typeorm';

/** One execution of a handler for a record, as `@CurrentAttempt()` gives it to the handler. */
export interface Attempt {
  /** The idempotency key as the client sent it, without quotes. */
  readonly key: string;
  /** Namespace of the key: the user or tenant; empty when the route shares one. */
  readonly scope: string;
  /** Number of this attempt for its record, from 1; it only grows. A fencing token to hand to other systems. */
  readonly number: number;
  /** The transaction that the handler's rows and the record commit in. Repositories join it without being told. */
  readonly manager: EntityManager;
}
