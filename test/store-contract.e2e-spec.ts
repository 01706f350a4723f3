import { AssertionError } from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type ContractCase, storeContract } from 'nestjs-pg-idempotency/testing';
import { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LeaseStore } from '../libs/idempotency/src/store/lease.store.js';
import { contractOf } from '../libs/idempotency/src/testing/contract/contract.js';
import { realStores } from '../libs/idempotency/src/testing/contract/contract-stores.js';
import { withClasses } from './broken-stores/broken-store.js';
import { type BrokenStore, BROKEN_STORES } from './broken-stores/index.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { until } from './support/until.js';

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.drop());

/** What a run of the contract has left behind, of tables and of rows. */
async function leftBehind(table: string): Promise<unknown> {
  const [tables, rows] = await Promise.all([
    database.rows(`SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE '%_contract_%'`),
    database.rows(`SELECT key FROM ${table}`),
  ]);
  return [...tables, ...rows];
}

describe.each([{ pipeline: true }, { pipeline: false }])(
  'the contract of the store, on connections of its own (pipeline: $pipeline)',
  ({ pipeline }) => {
    const table = pipeline ? 'pipelined_keys' : 'plain_keys';
    const cases = storeContract({
      database: () => ({ connectionString: database.url, pipeline }),
      table,
    });
    for (const { name, run } of cases) it(name, run);

    it('leaves nothing behind', async () => {
      expect(await leftBehind(table)).toEqual([]);
    });
  },
);

describe('the contract of the store, on a data source with four connections and a partitioned table with a trigger', () => {
  let dataSource: DataSource;
  const table = 'app.idempotency_keys';

  beforeAll(async () => {
    await database.rows('CREATE SCHEMA app');
    await prepareAsOperatorsDo();
    dataSource = new DataSource({ type: 'postgres', url: database.url, poolSize: 4 });
    await dataSource.initialize();
  });
  afterAll(() => dataSource?.destroy());

  const cases = storeContract({ database: () => dataSource, table, migrations: 'check' });
  for (const { name, run } of cases) it(name, run);

  it('leaves nothing behind, and the data source open', async () => {
    expect(await leftBehind(table)).toEqual([]);
    expect(await dataSource.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  /** Hash partitions, and a trigger that writes each row anew, as audit and replication tools have them. */
  async function prepareAsOperatorsDo(): Promise<void> {
    const { migrationSql } = await import('nestjs-pg-idempotency');
    await database.pool.query(partitioned(migrationSql(table)));
    await database.pool.query(`
CREATE TABLE app.seen (key text, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION app.see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO app.seen (key) VALUES (NEW.key);
  RETURN NEW;
END $$;
CREATE TRIGGER see BEFORE INSERT OR UPDATE ON app.idempotency_keys FOR EACH ROW EXECUTE FUNCTION app.see()`);
  }
});

/** The schema with the table of records in four partitions. */
function partitioned(sql: string): string {
  const [, options] = /\n\) (WITH \([^]*?\n\));/.exec(sql) ?? [];
  if (options === undefined) throw new Error('the schema has no table with options any more');
  const partitions = [0, 1, 2, 3].map(
    (part) =>
      `CREATE TABLE app.keys_${part} PARTITION OF app.idempotency_keys FOR VALUES WITH (MODULUS 4, REMAINDER ${part}) ${options};`,
  );
  return sql.replace(`\n) ${options};`, () => `\n) PARTITION BY HASH (key_hash);\n${partitions.join('\n')}`);
}

it('runs under node:test, on the package as it is built', async () => {
  const fixture = fileURLToPath(new URL('fixtures/contract-with-node-test.mjs', import.meta.url));
  // Under a runner of its own kind it would report to that one.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const { stdout } = await promisify(execFile)(process.execPath, ['--test', '--test-reporter=tap', fixture], {
    env: { ...env, DATABASE_URL: database.url },
  });
  expect(stdout).toMatch(new RegExp(`^# pass ${storeContract({ database: {} }).length}$`, 'm'));
  expect(stdout).toMatch(/^# fail 0$/m);
});

describe('before it touches a database, the contract', () => {
  const failureOf = (options: Parameters<typeof storeContract>[0]): Promise<unknown> =>
    (storeContract(options)[0] as ContractCase).run().then(
      () => undefined,
      (error: unknown) => error,
    );

  it('refuses what is no name of a table', () => {
    expect(() => storeContract({ database: {}, table: 'keys; DROP TABLE users' })).toThrow(
      /^table: received .* Use a name/,
    );
  });

  it('refuses a data source that is not initialised, and a pool that is too small', async () => {
    const uninitialised = new DataSource({ type: 'postgres', url: database.url });
    expect(await failureOf({ database: uninitialised })).toMatchObject({
      message: expect.stringMatching(/^database: received .*not initialised/),
    });
    expect(await failureOf({ database: { connectionString: database.url, max: 3 } })).toMatchObject({
      message: expect.stringMatching(/^database: received .*a pool of 3/),
    });
  });

  it('has names that tell its cases apart', () => {
    const names = storeContract({ database: {} }).map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    for (const name of names) expect(name).toMatch(/^(?:transaction mode|lease mode|both modes): /);
  });
});

it('ends a case that fails while others of it wait for a connection, and keeps none of them', async () => {
  const planted = new Error('planted');
  const make = withClasses({
    Leases: class extends LeaseStore {
      override claim(): Promise<never> {
        return Promise.reject(planted);
      }
    },
  });
  const named = { connectionString: database.directUrl, max: 4, application_name: 'failing' };
  const cases = contractOf({ database: named, table: 'failing_keys' }, make);
  const many = cases.find(({ name }) => name.startsWith('lease mode: of 32 claims'));
  await expect(many?.run()).rejects.toBe(planted);
  await until('its connections are closed', async () => {
    const left = `SELECT FROM pg_stat_activity WHERE application_name = 'failing'`;
    return (await database.rows(left)).length === 0;
  });
});

describe('a store with a bug', () => {
  /** The whole contract for each of them, to see what else tells it: `BROKEN_STORES=all`. */
  const isWhole = process.env['BROKEN_STORES'] === 'all';
  const report: string[] = [];

  afterAll(() => {
    if (report.length > 0) console.info(report.join('\n'));
  });

  it.concurrent.for(BROKEN_STORES.map((broken, index) => ({ ...broken, index })))(
    'that $name fails "$fails …"',
    { timeout: isWhole ? 600_000 : 60_000 },
    async ({ index, ...broken }, { expect: expected }) => {
      // A table of its own: what one store does wrong is nothing to the others.
      const cases = contractOf(
        { database: { connectionString: database.directUrl, max: 8 }, table: `broken_${index}_keys` },
        broken.make,
      );
      const named = cases.filter(({ name }) => name.startsWith(broken.fails));
      expected(named.map(({ name }) => name)).toHaveLength(1);

      const failures = await failuresOf(isWhole ? cases : named);
      const failure = failures.get(named[0]?.name ?? '');
      expected(failure).toBeInstanceOf(AssertionError);
      expected((failure as Error).message).toMatch(broken.says);
      if (!isWhole) return;
      report.push(reportOf(broken, failures, cases.length));
      // A store that does nothing right would fail every case, and show of none that it is needed.
      expected(failures.size).toBeLessThan(cases.length / 2);
    },
  );

  it('is there for every case of the contract', () => {
    const untold = contractOf({ database: {} }, realStores)
      .map(({ name }) => name)
      .filter((name) => !BROKEN_STORES.some(({ fails }) => name.startsWith(fails)));
    expect(untold).toEqual([]);
  });
});

async function failuresOf(cases: readonly ContractCase[]): Promise<Map<string, unknown>> {
  const failures = new Map<string, unknown>();
  for (const { name, run } of cases) {
    await run().catch((error: unknown) => failures.set(name, error));
  }
  return failures;
}

function reportOf({ name, fails }: BrokenStore, failures: Map<string, unknown>, of: number): string {
  const others = [...failures].filter(([failed]) => !failed.startsWith(fails));
  const lines = others.map(([failed, error]) => `    ${failed}\n      ${String(error).split('\n', 1)[0]}`);
  return [`${name}: ${failures.size} of ${of} cases fail: ${fails} …`, ...lines].join('\n');
}
