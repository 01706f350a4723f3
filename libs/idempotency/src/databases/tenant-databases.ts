import { AsyncResource } from 'node:async_hooks';
import { HttpException, Logger } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import { AdminNotBoundError } from '../admin/admin.errors.js';
import { Deadline } from '../engine/deadline.js';
import type { IdempotentRequest } from '../http/request.js';
import type { DataSourceResolver } from '../idempotency.options.js';
import type { DatabaseReading } from '../idempotency.runtime.js';
import type { AdminStore } from '../store/admin.store.js';
import { outsideAttempt } from '../transaction/attempt-context.js';
import { DatabaseNotPreparedError, DataSourceUnresolvedError } from './data-source.errors.js';
import {
  type Database,
  openDatabase,
  type SharedParts,
  startBackground,
  stopBackground,
} from './database.js';
import type { Databases } from './databases.js';
import { faultOfDataSource, nameOfDatabase } from './read-data-source.js';

/** Longest time that the migrations of one database may take, the wait for another instance's included. */
const MIGRATE_TIMEOUT_MS = 300_000;

/**
 * The database that each request chooses. One is prepared when it is first seen, once for all who ask meanwhile.
 *
 * Nothing here keeps a data source in memory. What looks at its database from time to time does, until it finds the data source
 * closed.
 */
export class TenantDatabases implements Databases {
  readonly warnings = [];
  readonly #logger = new Logger('Idempotency');
  readonly #open = new WeakMap<DataSource, Database>();
  readonly #preparing = new WeakMap<DataSource, Promise<Database>>();
  /** What was told last about a data source that cannot be used. */
  readonly #told = new WeakMap<DataSource, string>();
  readonly #seen = new Set<WeakRef<Database>>();
  /**
   * What is begun for a request goes on for everybody: it must not run in that request's asynchronous context, where the
   * application may keep who is signed in.
   */
  readonly #apart = new AsyncResource('IdempotencyDatabases');
  #state: 'starting' | 'started' | 'stopped' = 'starting';

  constructor(
    private readonly resolve: DataSourceResolver,
    private readonly shared: SharedParts,
  ) {}

  async of(request: IdempotentRequest): Promise<DatabaseReading> {
    const { acquireTimeoutMs } = this.shared.settings;
    const deadline = new Deadline(acquireTimeoutMs);
    const late = (what: string): DatabaseReading => {
      return { kind: 'unavailable', cause: new DatabaseNotPreparedError(`${what} ${acquireTimeoutMs} ms`) };
    };
    let asked: { readonly value: unknown } | 'over';
    try {
      asked = await deadline.race(this.#ask(request));
    } catch (cause) {
      if (cause instanceof HttpException) throw cause;
      return unresolved(`the dataSource function failed: ${String(cause)}`, cause);
    }
    if (asked === 'over') return late('the dataSource function returned nothing for');
    const { value } = asked;
    const fault = faultOfDataSource(value);
    if (fault !== undefined) {
      return unresolved(
        `the dataSource function returned ${fault}: return the initialised DataSource of type 'postgres' that the ` +
          "request's rows are in, or throw an HttpException where there is none",
      );
    }
    try {
      const database = await this.#database(value as DataSource, deadline);
      return database === 'over'
        ? late(`the database ${nameOfDatabase(value as DataSource)} was not prepared within`)
        : { kind: 'database', database };
    } catch (cause) {
      return { kind: 'unavailable', cause };
    }
  }

  adminStore(): Promise<AdminStore> {
    return Promise.reject(new AdminNotBoundError());
  }

  async adminStoreOf(dataSource: DataSource): Promise<AdminStore> {
    const fault = faultOfDataSource(dataSource);
    if (fault !== undefined) {
      throw new TypeError(
        `admin.of(dataSource): received ${fault}. Use an initialised DataSource of type 'postgres'.`,
      );
    }
    return (this.#known(dataSource) ?? (await this.#prepared(dataSource))).admin;
  }

  start(): void {
    if (this.#state !== 'starting') return;
    this.#state = 'started';
    for (const database of this.#all()) startBackground(database);
  }

  async stop(): Promise<void> {
    this.#state = 'stopped';
    await Promise.all(this.#all().map(stopBackground));
  }

  end(): void {
    for (const { leaseEngine } of this.#all()) leaseEngine.stop();
  }

  async #ask(request: IdempotentRequest): Promise<{ readonly value: unknown }> {
    // A request that a handler makes within the process must not read the tenants inside that handler's transaction.
    return { value: await outsideAttempt(() => this.resolve(request)) };
  }

  async #database(dataSource: DataSource, deadline: Deadline): Promise<Database | 'over'> {
    return this.#known(dataSource) ?? deadline.race(this.#prepared(dataSource));
  }

  #known(dataSource: DataSource): Database | undefined {
    const known = this.#open.get(dataSource);
    // Closed and opened again, it has other connections, of which nobody has looked at one.
    return known?.isOpen() ? known : undefined;
  }

  /** One preparation at a time, for everybody who asks. One that fails is forgotten: the next request tries again. */
  #prepared(dataSource: DataSource): Promise<Database> {
    const underWay = this.#preparing.get(dataSource);
    if (underWay) return underWay;
    const preparing = this.#apart
      .runInAsyncScope(() => this.#prepare(dataSource))
      .finally(() => this.#preparing.delete(dataSource));
    this.#preparing.set(dataSource, preparing);
    return preparing;
  }

  async #prepare(dataSource: DataSource): Promise<Database> {
    const name = nameOfDatabase(dataSource);
    const timeouts = {
      checkMs: this.shared.settings.acquireTimeoutMs,
      migrateMs: MIGRATE_TIMEOUT_MS,
    };
    let database: Database;
    try {
      database = await openDatabase(dataSource, this.shared, { isTenant: true, timeouts });
    } catch (cause) {
      throw this.#failed(dataSource, name, cause);
    }
    this.#told.delete(dataSource);
    for (const warning of database.warnings) this.#logger.warn(`Database ${name}: ${warning}`);
    const before = this.#open.get(dataSource);
    if (before) void stopBackground(before);
    this.#open.set(dataSource, database);
    for (const seen of this.#seen) if (!seen.deref()) this.#seen.delete(seen);
    this.#seen.add(new WeakRef(database));
    if (this.#state === 'started') startBackground(database);
    return database;
  }

  #failed(dataSource: DataSource, name: string, cause: unknown): DatabaseNotPreparedError {
    const reason = cause instanceof Error ? cause.message || cause.name : String(cause);
    const error = new DatabaseNotPreparedError(`the database ${name} cannot be used: ${reason}`, { cause });
    // Once for as long as it is the same: each request that is refused is told of, too.
    if (this.#told.get(dataSource) !== error.message) {
      this.#told.set(dataSource, error.message);
      this.#logger.error(
        `Database ${name} is not prepared: ${reason} Its requests are answered 503 and run nothing, and each tries again.`,
      );
    }
    return error;
  }

  #all(): Database[] {
    return [...this.#seen].flatMap((seen) => seen.deref() ?? []);
  }
}

function unresolved(message: string, cause?: unknown): DatabaseReading {
  return { kind: 'unresolved', cause: new DataSourceUnresolvedError(message, { cause }) };
}
