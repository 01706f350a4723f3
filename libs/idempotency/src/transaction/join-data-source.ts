import type { DataSource, EntityManager, QueryRunner } from 'typeorm';
import { currentContext } from './attempt-context.js';

const JOINED = Symbol.for('nestjs-pg-idempotency:joined');

/** TypeORM's own way to make a query runner, past the hook. */
export type MakeRunner = (mode?: 'master' | 'slave') => QueryRunner;

interface JoinedDataSource {
  [JOINED]?: MakeRunner;
}

/**
 * Makes everything that goes through `dataSource` join the current attempt, if there is one for this data source:
 * repositories, entity managers, query builders and raw queries all ask `createQueryRunner()`, also for reads that
 * replication would send elsewhere. Outside an attempt nothing changes. Hooking the same data source again is a no-op.
 *
 * @returns TypeORM's own `createQueryRunner`, for the attempt's connection.
 */
export function joinDataSource(dataSource: DataSource): MakeRunner {
  const hooked = dataSource as DataSource & JoinedDataSource;
  const known = hooked[JOINED];
  if (known) return known;

  const original: MakeRunner = dataSource.createQueryRunner.bind(dataSource);
  hooked[JOINED] = original;
  dataSource.createQueryRunner = (mode) => {
    // A transaction of one database cannot take in the rows of another: those data sources work as they always do.
    return currentContext()?.attempt.joinedRunner(dataSource) ?? original(mode);
  };

  const manager = dataSource.manager as { transaction: EntityManager['transaction'] };
  const originalTransaction = manager.transaction.bind(dataSource.manager) as (
    ...args: unknown[]
  ) => Promise<unknown>;
  manager.transaction = (...args: unknown[]) => {
    const runner = currentContext()?.attempt.joinedRunner(dataSource);
    if (!runner) return originalTransaction(...args);
    return (runner.manager.transaction as (...args: unknown[]) => Promise<unknown>)(...args);
  };
  return original;
}
