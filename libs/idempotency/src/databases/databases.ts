import type { DataSource } from 'typeorm';
import type { RecordDatabases } from '../idempotency.runtime.js';
import type { AdminStore } from '../store/admin.store.js';

/** The databases of the module, and their life. */
export interface Databases extends RecordDatabases {
  /** Told once the application is up. */
  readonly warnings: readonly string[];
  /** Where the unbound `IdempotencyAdmin` decides. */
  adminStore(): Promise<AdminStore>;
  /** Where the one that is bound to a data source does; a database that was not seen yet is prepared. */
  adminStoreOf(dataSource: DataSource): Promise<AdminStore>;
  /** From when on expired records are deleted and abandoned ones finished. */
  start(): void;
  /** Ends that, and waits for what is under way. */
  stop(): Promise<void>;
  /** What still runs is not waited for, and loses its lease. */
  end(): void;
}
