import { MigrationExecutor, type DataSource } from 'typeorm';

/** Any number that no other advisory lock of this database uses. */
const MIGRATION_LOCK = 7_203_514_986;

/**
 * Applies the migrations that are missing. Instances may start at once on one empty database: the first one takes the
 * lock and the others find nothing left to do. Lock and migrations share one transaction, so that a crash leaves
 * neither, and so that a pool of one connection is enough.
 */
export async function migrate(dataSource: DataSource): Promise<void> {
  const runner = dataSource.createQueryRunner();
  try {
    await runner.startTransaction();
    await runner.query('SELECT pg_advisory_xact_lock($1)', [MIGRATION_LOCK]);
    await new MigrationExecutor(dataSource, runner).executePendingMigrations();
    await runner.commitTransaction();
  } catch (error) {
    if (runner.isTransactionActive) await runner.rollbackTransaction();
    throw error;
  } finally {
    await runner.release();
  }
}
