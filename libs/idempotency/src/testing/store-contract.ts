import type { MigrationMode } from '../idempotency.options.js';
import { contractOf } from './contract/contract.js';
import type { ContractDatabase } from './contract/contract-database.js';
import { realStores } from './contract/contract-stores.js';

export type { ContractDatabase } from './contract/contract-database.js';

/** One thing that the records must do, to be run by any test runner, or by none. */
export interface ContractCase {
  /** What holds, as a sentence: `transaction mode: a held record is skipped, and seen as in flight at once`. */
  readonly name: string;
  /**
   * Tries it on the database, with keys of its own. It may run alone, in any order and more than once.
   *
   * @throws {Error} when it does not hold; the message says what was found and what was to be.
   */
  readonly run: () => Promise<void>;
}

/** On which database the contract is to hold. */
export interface StoreContractOptions {
  /**
   * Where the records are: a TypeORM `DataSource` of type `postgres`, or settings of node-postgres, as `{ connectionString }`.
   * A function is called once, when the first case runs: for a database that the test starts first.
   *
   * A `DataSource` must be initialised when the cases run, is not closed, and needs a pool of at least 4 connections. Settings are opened
   * for each case and closed behind it, with up to 16 connections unless `max` says otherwise; at least 4.
   */
  readonly database: ContractDatabase | (() => ContractDatabase | Promise<ContractDatabase>);
  /**
   * As the module's `table`: `name` or `schema.name`. One that no application uses meanwhile: what has expired in it is deleted, as the
   * reaper does.
   * @default 'idempotency_keys'
   */
  readonly table?: string;
  /**
   * As the module's `migrations`: `'run'` makes the tables, `'check'` and `'off'` find them there.
   * @default 'run'
   */
  readonly migrations?: MigrationMode;
}

/**
 * What the library needs of a database, as cases that try it on yours: an engine that speaks PostgreSQL's protocol, a managed
 * service, a pooler, a table that was partitioned, has triggers, or stands in a schema of its own. Nothing of it is mocked: the cases go
 * through the statements that requests go through.
 *
 * Each case leaves the database as it was. While it runs, some have a table of their own beside the records, named after theirs with
 * `_contract_` and eight digits: the account needs the right to create one. A case takes well under a second where all is well, and up
 * to 30 where something is not; give the runner that long. Run them one after the other.
 *
 * @example node:test
 * ```ts
 * import { test } from 'node:test';
 * import { storeContract } from 'nestjs-pg-idempotency/testing';
 *
 * const database = { connectionString: process.env.DATABASE_URL };
 * for (const { name, run } of storeContract({ database })) void test(name, run);
 * ```
 *
 * @example vitest, on a data source that the tests open
 * ```ts
 * import { afterAll, beforeAll, it } from 'vitest';
 * import { storeContract } from 'nestjs-pg-idempotency/testing';
 *
 * beforeAll(() => dataSource.initialize());
 * afterAll(() => dataSource.destroy());
 * for (const { name, run } of storeContract({ database: dataSource })) it(name, run, 30_000);
 * ```
 *
 * @throws {IdempotencyConfigurationError} when `table` is no name of a table. What is wrong with the database is thrown by the cases.
 */
export function storeContract(options: StoreContractOptions): readonly ContractCase[] {
  return contractOf(options, realStores);
}
