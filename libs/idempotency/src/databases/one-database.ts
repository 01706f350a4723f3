import type { DataSource } from 'typeorm';
import type { DatabaseReading } from '../idempotency.runtime.js';
import type { AdminStore } from '../store/admin.store.js';
import {
  type Database,
  openDatabase,
  type SharedParts,
  startBackground,
  stopBackground,
} from './database.js';
import type { Databases } from './databases.js';

/** One database for all requests, prepared at start. */
export class OneDatabase implements Databases {
  readonly #reading: DatabaseReading;

  private constructor(
    private readonly dataSource: DataSource,
    readonly database: Database,
  ) {
    this.#reading = { kind: 'database', database };
  }

  /** @throws {IdempotencyConfigurationError} which fails the start. */
  static async open(dataSource: DataSource, shared: SharedParts): Promise<OneDatabase> {
    // As long as it takes: nobody waits but the start.
    const timeouts = { checkMs: undefined, migrateMs: undefined };
    return new OneDatabase(dataSource, await openDatabase(dataSource, shared, { isTenant: false, timeouts }));
  }

  get warnings(): readonly string[] {
    return this.database.warnings;
  }

  of(): DatabaseReading {
    return this.#reading;
  }

  adminStore(): Promise<AdminStore> {
    return Promise.resolve(this.database.admin);
  }

  async adminStoreOf(dataSource: DataSource): Promise<AdminStore> {
    // Fail closed: a decision about a record that no request looks at decides nothing.
    if (dataSource !== this.dataSource) {
      throw new TypeError(
        'admin.of(dataSource): the records are in the data source that the dataSource option names, and this is another one. ' +
          'Use that one, or leave .of() out.',
      );
    }
    return this.database.admin;
  }

  start(): void {
    startBackground(this.database);
  }

  stop(): Promise<void> {
    return stopBackground(this.database);
  }

  end(): void {
    this.database.leaseEngine.stop();
  }
}
