import { records } from './0001-records.js';
import { leases } from './0002-leases.js';
import type { IdempotencyMigration } from './migration.js';

/** Every step of the schema, oldest first. */
export const MIGRATIONS: readonly IdempotencyMigration[] = [records, leases];
