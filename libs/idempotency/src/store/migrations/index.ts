import { records } from './0001-records.js';
import type { IdempotencyMigration } from './migration.js';

/** Every step of the schema, oldest first. */
export const MIGRATIONS: readonly IdempotencyMigration[] = [records];
