import type { DataSource } from 'typeorm';
import type { LocalCache } from './cache/local-cache.js';
import type { SharedCache } from './cache/shared-cache.js';
import type { Duration } from './duration.js';
import type { IdempotentRequest } from './http/request.js';

/** What a caller's key is good for: a fixed format, a pattern, or a predicate. */
export type KeyFormat = 'uuid' | 'uuidv7' | RegExp | ((key: string) => boolean);

/**
 * Resolves the namespace of a key from the request: the user, the tenant. The same key under two scopes is two
 * records. `undefined` or an empty string means that no scope could be resolved.
 */
export type ScopeResolver = (request: IdempotentRequest) => string | number | undefined;

/**
 * Chooses what a retry must repeat beside method, path and query. What it returns takes the place of the body in
 * the fingerprint and must be JSON, a string or a Buffer. It runs before the handler and must not change the request.
 */
export type FingerprintResolver = (request: IdempotentRequest) => unknown;

/**
 * Chooses the database of a request: the tenant's `DataSource`, initialised, and the same one for the same tenant every time. It
 * is called once per request with a key, after guards and before anything is looked up, and must not change the request. An
 * `HttpException` that it throws is the answer; anything else than a `DataSource` is answered 500
 * `IDEMPOTENCY_DATA_SOURCE_UNRESOLVED`.
 */
export type DataSourceResolver = (request: IdempotentRequest) => DataSource | Promise<DataSource>;

/** Says whether an outcome is final: stored and replayed. `false` rolls back and releases the key. */
export type StoreIf = (status: number, error: unknown) => boolean;

/** Where a handler's effects are, and with that how its attempts are kept apart. */
export type AttemptMode = 'transaction' | 'lease';

/** What becomes of a record whose lease-mode attempt is gone. */
export type OnAbandoned = 'retry' | 'fail';

/** What may be set per module and per route; the route wins over the class, the class over the module. */
export interface IdempotentOptions {
  /**
   * Where the handler's effects are. `'transaction'`: in the same PostgreSQL database; record and rows commit as one.
   * `'lease'`: outside of it too, or it runs long: no transaction and no connection is held, the record is held by a lease,
   * and the handler's pieces are steps and phases of its attempt. Let `ttl` pass before a key of one mode comes to a route
   * that was changed to the other.
   * @default 'transaction'
   */
  mode?: AttemptMode;

  /**
   * Lease mode: how long the right to run lasts without a heartbeat, which comes three times in it. A process that is
   * frozen or cut off for longer loses the record to the next attempt. Too short: busy processes lose theirs. Too long:
   * the key of a process that died stays in flight for that long. From 100 ms, on a lease-mode route to its `maxRuntime`.
   * @default the shorter of `30s` and `maxRuntime`
   */
  leaseTtl?: Duration;

  /**
   * Lease mode: what becomes of a record whose attempt is gone, by a crash, a lost lease, or an error after something of it
   * was done. `'retry'`: the next request goes on with it, and gets the results of the steps that are done. `'fail'`: the
   * handler is never run again by itself; the key answers 503 `IDEMPOTENCY_OUTCOME_UNKNOWN` until a person decides
   * through `IdempotencyAdmin`. For effects that cannot be asked for twice.
   * @default 'retry'
   */
  onAbandoned?: OnAbandoned;

  /**
   * Name of the request header that carries the key, case-insensitive.
   * @default 'Idempotency-Key' (draft-ietf-httpapi-idempotency-key-header-07, section 2)
   */
  header?: string;

  /**
   * Whether a request without the header is refused with 400 `IDEMPOTENCY_KEY_REQUIRED`. With `false` it runs
   * unprotected: a retry of it repeats its effect. An empty header is refused either way.
   * @default true
   */
  required?: boolean;

  /**
   * Narrows which keys are accepted, beyond 1 to 255 printable ASCII characters. A key outside it is answered 400
   * `IDEMPOTENCY_KEY_INVALID` before any look-up. A RegExp must match the whole key by its own anchors.
   * @default any
   */
  keyFormat?: KeyFormat;

  /**
   * Namespace of the key. `false` states that all callers share one: a caller who guesses a key then reads the
   * answer stored under it. The default takes `id` or `sub` of `request.user`. A request with a `user` whose scope
   * does not resolve is refused with 500 in production, warned about elsewhere.
   * @default request.user?.id ?? request.user?.sub
   */
  scope?: ScopeResolver | false;

  /**
   * What takes the place of the body in the fingerprint. The default is the parsed body in canonical form
   * (RFC 8785): member order does not matter, every value does.
   * @default (request) => request.body
   */
  fingerprint?: FingerprintResolver;

  /**
   * How long a final outcome is replayed, counted from the claim; in lease mode, where a record may be finished long after
   * that, from the outcome. After that the same key is a new request and runs again, so it must outlast the longest retry
   * of any client. At least `maxRuntime`.
   * @default '24h'
   */
  ttl?: Duration;

  /**
   * How long one attempt may take. When it is over the attempt's transaction is rolled back, the caller gets 503, and
   * the key is free. The database enforces it too (`idle_in_transaction_session_timeout` and `transaction_timeout`;
   * before PostgreSQL 17 `statement_timeout`), so that a frozen process cannot hold a key. Too short: slow handlers never finish.
   * Too long: a frozen owner blocks its key for that long. In lease mode the handler cannot be rolled back: its lease is not
   * renewed any more, its `signal` is aborted, and the caller gets 503 `IDEMPOTENCY_OUTCOME_UNKNOWN`.
   * @default '60s'
   */
  maxRuntime?: Duration;

  /**
   * How many attempts in a row may be abandoned (the process or its connection died) before the handler is not run
   * again and the key answers 500 `IDEMPOTENCY_ATTEMPTS_EXHAUSTED`. It stops a request that kills every process that
   * serves it. Errors that the handler throws do not count. In lease mode the key then answers 503
   * `IDEMPOTENCY_OUTCOME_UNKNOWN`, and waits for a person. 1 to 1000.
   * @default 5
   */
  maxAttempts?: number;

  /**
   * What a duplicate gets while the first request is in flight: `'reject'` answers 409 with `Retry-After`,
   * `'wait'` waits up to `waitTimeout` for the outcome and replays it.
   * @default 'reject'
   */
  onInFlight?: 'reject' | 'wait';

  /**
   * How long a duplicate waits with `onInFlight: 'wait'` before it is answered 409 after all.
   * @default '10s'
   */
  waitTimeout?: Duration;

  /**
   * Value of the `Retry-After` header on 409 and 503, rounded up to whole seconds, at least 1.
   * @default '1s'
   */
  retryAfter?: Duration;

  /**
   * Status of a replayed 2xx: `'ok'` answers 200, `'original'` the status of the first answer. 204 and 205, which say
   * that there is no content, and any other stored status are replayed as they were.
   * @default 'ok'
   */
  replayStatus?: 'ok' | 'original';

  /**
   * Whether an outcome is final. The default stores everything below 500 that the handler answered or threw as an
   * `HttpException`. `status` is that of the answer; `error` is what was thrown, `undefined` for an answer.
   * @default (status, error) => status < 500
   */
  storeIf?: StoreIf;

  /**
   * Largest answer, in bytes, that is stored. A larger one is sent once and leaves a tombstone: its effect stands,
   * and a replay is answered 500 `IDEMPOTENCY_RESPONSE_NOT_STORED`. 0 stores no body at all.
   * @default 1048576
   */
  maxResponseBytes?: number;

  /**
   * Response headers stored and replayed beside `Content-Type`. `Set-Cookie`, `Authorization` headers and connection
   * headers are never stored and refused here.
   * @default ['Location', 'ETag', 'Link', 'Content-Language', 'Content-Disposition', 'Last-Modified']
   */
  replayHeaders?: readonly string[];
}

/** How abandoned lease-mode records are finished without their clients. */
export interface CompleterOptions {
  /**
   * How long a record must have been abandoned. Give its client the time to come back first. Each failed attempt doubles the
   * time until the next, up to an hour. From 10 ms.
   * @default '1m'
   */
  after?: Duration;

  /**
   * How often abandoned records are looked for. From 10 ms.
   * @default `after`, at most '30s'
   */
  interval?: Duration;

  /**
   * How many records this process finishes at a time, over all databases. 1 to 100.
   * @default 4
   */
  concurrency?: number;

  /**
   * Request headers that are stored with a record, beside `Content-Type`. Never one that carries credentials:
   * `Authorization`, `Cookie` and their like are refused here.
   * @default ['Accept', 'Accept-Language']
   */
  requestHeaders?: readonly string[];

  /**
   * Puts back on the request what is not stored, before the handler is called: most of all `user`, which guards put there
   * and which are not run again. Gets the record's scope and key to find it by, and the `DataSource` that the record is in.
   * @default nothing
   */
  restore?: RestoreRequest;
}

/** Copies of final outcomes beside the database. They save latency, and decide nothing: without them everything is the same. */
export interface ReplayCacheOptions {
  /**
   * Keeps the most recent outcomes in the process: `memoryCache()` of `nestjs-pg-idempotency/memory`.
   * @default none
   */
  memory?: LocalCache;

  /**
   * Keeps outcomes for all instances: `redisCache()` of `nestjs-pg-idempotency/redis`, `memcachedCache()` of
   * `nestjs-pg-idempotency/memcached`, or any other `SharedCache`. It is started and closed with the application.
   * @default none
   */
  shared?: SharedCache;

  /**
   * What the entries of the shared cache are sealed with (AES-256-GCM): keys of 32 bytes, as Buffers or in hexadecimal or base64,
   * the same on all instances. The first one seals, all open. Whoever has none of them can neither read an answer in the
   * cache nor put one there. An entry that does not open is a miss, so that keys may be changed at any time.
   * @default `encryptionKeys`; without either, a shared cache is refused at start
   */
  keys?: readonly (string | Uint8Array)[];

  /**
   * How long an answer of the shared cache is waited for; then the database is asked. From 1 ms to a minute.
   * @default '50ms'
   */
  timeout?: Duration;

  /**
   * How long a hint counts by which an attempt tells the other instances that its record is in flight, without being given
   * again. Duplicates of a hot key are then answered 409 without the database. When a process dies, a retry of its request may
   * be answered 409 for so long. `false` gives and takes no hints. From `1s` to a minute.
   * @default '2s'
   */
  inFlightTtl?: Duration | false;
}

/** Puts back on a stored request what was not stored. What it throws leaves the record abandoned. */
export type RestoreRequest = (
  request: IdempotentRequest & { user?: unknown },
  record: { readonly scope: string; readonly key: string; readonly dataSource: DataSource },
) => void | Promise<void>;

/** How the table's migrations are applied. */
export type MigrationMode = 'run' | 'check' | 'off';

/** Options of `IdempotencyModule.forRoot()` and `forRootAsync()`. */
export interface IdempotencyModuleOptions extends IdempotentOptions {
  /**
   * The TypeORM `DataSource` whose database holds the records and the handlers' rows: its name, as `TypeOrmModule.forRoot({ name })`
   * and `@InjectDataSource(name)` have it, or a function of the request, for tenants on databases of their own. With
   * `forRootAsync()` a name stands beside `useFactory`; a function stands there or in what the factory returns.
   * @default the default data source
   */
  dataSource?: string | DataSourceResolver;

  /**
   * Separates services that share one table: part of every record's identity. 1 to 100 characters.
   * @default 'default'
   */
  namespace?: string;

  /**
   * Name of the table, `name` or `schema.name`, of letters, digits and `_`.
   * @default 'idempotency_keys'
   */
  table?: string;

  /**
   * `'run'` applies missing migrations at start, under an advisory lock, so that any number of instances may start at
   * once. `'check'` refuses to start when one is missing. `'off'` looks at nothing. A database that is chosen per request is
   * looked at when it is first seen.
   * @default 'run'
   */
  migrations?: MigrationMode;

  /**
   * How often expired records are deleted; `false` never does it here. One instance at a time does the work.
   * @default '60s'
   */
  reapInterval?: Duration | false;

  /**
   * How many records one statement of the reaper deletes, 1 to 100000.
   * @default 1000
   */
  reapBatch?: number;

  /**
   * How long a request may wait for a connection of the pool before it is answered 503, nothing having run.
   * @default '10s'
   */
  acquireTimeout?: Duration;

  /**
   * How long a shutdown waits for handlers that run when it begins; `0` does not wait. From its beginning requests with a key are
   * answered 503 `IDEMPOTENCY_SHUTTING_DOWN` and run nothing, those too that wait for another attempt, so that they are repeated
   * on another instance. What still runs when the time is over is left to the rest of the shutdown: a transaction is rolled
   * back when its connection closes, a lease runs out. Shorter than what the platform gives a process between SIGTERM and SIGKILL.
   * Begins with `app.close()`, and with SIGTERM where the application has called `app.enableShutdownHooks()`.
   * @default '10s'
   */
  drainTimeout?: Duration;

  /**
   * How many connections of the pool may be spent on waiting for attempts in other processes
   * (`onInFlight: 'wait'`); further duplicates queue for one of them within their `waitTimeout`.
   * Duplicates in the same process need none, and in lease mode nobody holds a connection while waiting.
   * @default a quarter of the pool, at least 1
   */
  maxWaiters?: number;

  /**
   * Finishes abandoned lease-mode records without waiting for their clients, by calling the route's handler again with the
   * stored request: its pipes and interceptors run, its guards do not. While it is off, no request is stored. Routes with
   * `onAbandoned: 'fail'` are never touched.
   * @default false
   */
  completer?: CompleterOptions | boolean;

  /**
   * Encrypts stored answers, step results and stored requests (AES-256-GCM): keys of 32 bytes, as Buffers or in hexadecimal
   * or base64. The first one encrypts, all decrypt. To change it, add the new one at the end, and put it in front when every
   * instance has it; take the old one out when its last record has expired. Without its key a record answers 500 `IDEMPOTENCY_RECORD_UNREADABLE`, and is not run again. Keys, scopes
   * and `last_error` stay readable.
   * @default none: what is stored is readable in the database
   */
  encryptionKeys?: readonly (string | Uint8Array)[];

  /**
   * Answers replays from copies of the final outcomes, without the database: in this process, and in a cache that the
   * instances share. What is there is held to what a row is held to, and whenever it is missing, late or damaged the
   * database is asked.
   * @default none
   */
  replayCache?: ReplayCacheOptions;

  /**
   * Address of the page that describes the error codes, sent as `type` and in the `Link` header of problem details.
   * @default the package's page on npm
   */
  docsUrl?: string;
}
