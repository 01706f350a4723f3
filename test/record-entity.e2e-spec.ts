import { Body, Controller, Post } from '@nestjs/common';
import { Idempotent, IdempotencyRecordEntity, migrationSql } from 'nestjs-pg-idempotency';
import { DataSource } from 'typeorm';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startApp } from './support/app.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { send } from './support/http.js';

@Controller('echo')
class EchoController {
  @Post()
  @Idempotent()
  echo(@Body() body: unknown): unknown {
    return { body };
  }
}

let database: TestDatabase;

beforeEach(async () => {
  database = await createDatabase();
});
afterEach(() => database.drop());

async function schemaQueries(url: string): Promise<string[]> {
  const dataSource = new DataSource({ type: 'postgres', url, entities: [IdempotencyRecordEntity] });
  await dataSource.initialize();
  try {
    const { upQueries } = await dataSource.driver.createSchemaBuilder().log();
    return upQueries.map(({ query }) => query);
  } finally {
    await dataSource.destroy();
  }
}

describe('IdempotencyRecordEntity', () => {
  it('is what the migrations make: TypeORM finds nothing to change', async () => {
    await database.pool.query(migrationSql());
    expect(await schemaQueries(database.url)).toEqual([]);
  });

  it.each([
    ['a type', 'ALTER TABLE idempotency_keys ALTER COLUMN attempt TYPE bigint'],
    ['a default', "ALTER TABLE idempotency_keys ALTER COLUMN status SET DEFAULT 'error'"],
    ['nullability', 'ALTER TABLE idempotency_keys ALTER COLUMN scope DROP NOT NULL'],
    ['a column', 'ALTER TABLE idempotency_keys DROP COLUMN last_error'],
    ['another column', 'ALTER TABLE idempotency_keys ADD COLUMN more text'],
    ['an index', 'DROP INDEX idempotency_keys_expires_at'],
    ['a partial index', 'DROP INDEX idempotency_keys_lease_until'],
    ['a check', 'ALTER TABLE idempotency_keys DROP CONSTRAINT idempotency_keys_status_check'],
    ['the primary key', 'ALTER TABLE idempotency_keys DROP CONSTRAINT idempotency_keys_pkey CASCADE'],
  ])('shows when %s drifts', async (_what, change) => {
    await database.pool.query(migrationSql());
    await database.pool.query(change);
    expect(await schemaQueries(database.url)).not.toEqual([]);
  });

  it('reads a record through TypeORM', async () => {
    const app = await startApp({
      databaseUrl: database.url,
      controllers: [EchoController],
      entities: [IdempotencyRecordEntity],
      poolSize: 3,
    });
    const answer = await send(`${app.url}/echo`, { body: { key: 'k' }, headers: { 'Idempotency-Key': 'k' } });
    const records = await app.dataSource.getRepository(IdempotencyRecordEntity).find();
    await app.close();
    expect(records).toHaveLength(1);
    expect(records[0]).toMatchObject({
      key: 'k',
      namespace: 'default',
      scope: '',
      operation: 'POST /echo',
      status: 'completed',
      attempt: 1,
      abandoned: 0,
      format: 1,
      responseStatus: 201,
      leaseUntil: null,
      lastError: null,
      request: null,
    });
    const [record] = records;
    expect(record?.responseBody?.equals(answer.body)).toBe(true);
    expect(record?.keyHash).toHaveLength(32);
    expect(record?.fingerprint).toHaveLength(32);
    expect((record?.expiresAt.getTime() ?? 0) - (record?.createdAt.getTime() ?? 0)).toBeGreaterThan(
      86_399_000,
    );
    expect(record?.completedAt?.getTime()).toBeGreaterThanOrEqual(record?.createdAt.getTime() ?? Infinity);
  });
});
