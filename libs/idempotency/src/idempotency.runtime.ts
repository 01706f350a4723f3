import type { Drain } from './engine/drain.js';
import type { Engine } from './engine/outcomes.js';
import type { AttemptMode } from './idempotency.options.js';
import type { IdempotencyEvents } from './events/idempotency-events.js';
import type { IdempotentRequest } from './http/request.js';
import type { RequestIdentityReader } from './http/request-identity.js';
import type { ModuleSettings } from './resolve-options.js';
import type { RouteRegistry } from './routes/route-registry.js';

/** A database that holds records, as requests see it. */
export interface RecordDatabase {
  readonly engines: Readonly<Record<AttemptMode, Engine>>;
}

/** In which database the record of a request belongs. */
export type DatabaseReading =
  | { readonly kind: 'database'; readonly database: RecordDatabase }
  /** The `dataSource` function failed, or returned something else: a fault of the application. */
  | { readonly kind: 'unresolved'; readonly cause: Error }
  /** It is known, and cannot be used now. */
  | { readonly kind: 'unavailable'; readonly cause: unknown };

/** The databases that hold records: one for all requests, or the one that each request chooses. */
export interface RecordDatabases {
  /**
   * Asked once per request with a key, before anything is looked up.
   *
   * @throws the `HttpException` that the `dataSource` function threw, to be answered as it is.
   */
  of(request: IdempotentRequest): DatabaseReading | Promise<DatabaseReading>;
}

/** What the interceptor works with, put together once at start. */
export interface IdempotencyRuntime {
  readonly databases: RecordDatabases;
  readonly drain: Drain;
  readonly routes: RouteRegistry;
  readonly identities: RequestIdentityReader;
  readonly events: IdempotencyEvents;
  readonly settings: ModuleSettings;
}

export const IDEMPOTENCY_RUNTIME = Symbol('IDEMPOTENCY_RUNTIME');
