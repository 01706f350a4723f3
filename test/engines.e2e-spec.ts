import { IdempotencyConfigurationError, IdempotencyModule } from 'nestjs-pg-idempotency';
import { Test } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, type TestDatabase } from './support/database.js';

const FIX = 'Use PostgreSQL, and a table, partitioned or not: an abandoned record is told by its xmax.';

describe('an engine that is not PostgreSQL', () => {
  let database: TestDatabase;
  const opened: DataSource[] = [];

  beforeAll(async () => {
    database = await createDatabase();
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map(async (source) => source.isInitialized && source.destroy()));
    await database.alter('RESET ALL');
  });
  afterAll(() => database?.drop());

  /** Starts an application and ends it; answers what failed its start. */
  const start = async (migrations: 'run' | 'off' = 'run'): Promise<unknown> => {
    try {
      const module = await Test.createTestingModule({
        imports: [
          TypeOrmModule.forRootAsync({
            useFactory: () => ({ type: 'postgres' as const, url: database.url, retryAttempts: 0 }),
            dataSourceFactory: async (options) => {
              const source = await new DataSource(options as DataSourceOptions).initialize();
              opened.push(source);
              return source;
            },
          }),
          IdempotencyModule.forRoot({ migrations, reapInterval: false }),
        ],
      })
        .setLogger({ log: () => undefined, warn: () => undefined, error: () => undefined })
        .compile();
      await module.init();
      await module.close();
      return undefined;
    } catch (error) {
      return error;
    }
  };
  const tables = async (): Promise<string[]> =>
    (
      await database.rows<{ name: string }>(
        `SELECT relname AS name FROM pg_class WHERE relkind = 'r' AND relname LIKE 'idempotency%'`,
      )
    ).map(({ name }) => name);

  // In the form that those engines have: the one begins with its name, the other puts its version into PostgreSQL's.
  it.each([
    ['CockroachDB CCL v25.2.0', ' (x86_64-pc-linux-gnu, built 2025/05/12 00:00:00, go1.23.7)'],
    ['PostgreSQL 15.2-YB-2025.1.0.0-b0', ' on x86_64-pc-linux-gnu, compiled by clang version 17.0.6, 64-bit'],
  ])('fails the start by what it calls itself, before anything is made: %s', async (name, build) => {
    await database.rows('DROP SCHEMA IF EXISTS another CASCADE');
    await database.rows('CREATE SCHEMA another');
    await database.rows(
      `CREATE FUNCTION another.version() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT '${name}${build}' $$`,
    );
    // A function of PostgreSQL's own goes before all others, unless its schema is named behind theirs.
    await database.alter('SET search_path = another, pg_catalog, public');
    const failure = await start();
    expect(await tables()).toEqual([]);
    expect(failure).toBeInstanceOf(IdempotencyConfigurationError);
    expect((failure as Error).message).toBe(`dataSource: received '${name}'. ${FIX}`);
  });

  it('fails the start when rows of the table have no header, as those of a view have none', async () => {
    expect(await start()).toBeUndefined();
    await database.rows('ALTER TABLE idempotency_keys RENAME TO stored');
    await database.rows('CREATE VIEW idempotency_keys AS SELECT * FROM stored');
    const failure = await start('off');
    expect(failure).toBeInstanceOf(IdempotencyConfigurationError);
    expect((failure as Error).message).toMatch(
      /^dataSource: received 'rows without xmin and xmax, of PostgreSQL \d+\.\d+'\. /,
    );
    expect((failure as Error).message).toContain(FIX);
  });
});
