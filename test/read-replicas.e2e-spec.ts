import { randomUUID } from 'node:crypto';
import { Controller, Get, Injectable, Module, Param, Post } from '@nestjs/common';
import { InjectDataSource, TypeOrmModule } from '@nestjs/typeorm';
import { Test } from '@nestjs/testing';
import type { INestApplication } from '@nestjs/common';
import { Idempotent, IdempotencyModule } from 'nestjs-pg-idempotency';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, type TestDatabase } from './support/database.js';
import { type Answer, send } from './support/http.js';

/** Reads through a query builder: TypeORM gives raw queries to the primary as it is. */
@Injectable()
class Counter {
  constructor(@InjectDataSource() readonly dataSource: DataSource) {}

  async count(): Promise<number> {
    const row = await this.dataSource
      .createQueryBuilder()
      .select('count(*)::int', 'count')
      .from('effects', 'effects')
      .getRawOne<{ count: number }>();
    return row?.count ?? -1;
  }
}

@Controller('effects')
class EffectsController {
  constructor(private readonly counter: Counter) {}

  @Post(':key')
  @Idempotent()
  async add(@Param('key') key: string): Promise<{ seen: number }> {
    await this.counter.dataSource.query('INSERT INTO effects VALUES ($1)', [key]);
    return { seen: await this.counter.count() };
  }

  @Get()
  async seen(): Promise<{ seen: number }> {
    return { seen: await this.counter.count() };
  }
}

/** The replica is a database of its own here, which gets nothing: what is read there is told apart at once. */
describe('a data source with a read replica', () => {
  let primary: TestDatabase;
  let replica: TestDatabase;
  let app: INestApplication;
  let url: string;

  beforeAll(async () => {
    [primary, replica] = [await createDatabase(), await createDatabase()];
    for (const { pool } of [primary, replica]) await pool.query('CREATE TABLE effects (key text)');
    await replica.pool.query(`INSERT INTO effects SELECT 'old' FROM generate_series(1, 100)`);

    @Module({
      imports: [
        TypeOrmModule.forRoot({
          type: 'postgres',
          replication: { master: { url: primary.url }, slaves: [{ url: replica.url }] },
          retryAttempts: 0,
          extra: { pipeline: true },
        }),
        IdempotencyModule.forRoot(),
      ],
      controllers: [EffectsController],
      providers: [Counter],
    })
    class TestModule {}

    app = (await Test.createTestingModule({ imports: [TestModule] }).compile()).createNestApplication({
      logger: false,
    });
    await app.listen(0, '127.0.0.1');
    url = `${await app.getUrl()}/effects`;
  });
  afterAll(async () => {
    await app?.close();
    await primary?.drop();
    await replica?.drop();
  });

  it('keeps and asks for records at the primary, and reads there in an attempt; elsewhere nothing changes', async () => {
    const key = randomUUID();
    const post = (): Promise<Answer> => send(`${url}/${key}`, { headers: { 'idempotency-key': key } });
    const first = await post();
    const second = await post();
    const outside = await send(url, { method: 'GET' });

    expect(await primary.rows('SELECT key FROM effects')).toEqual([{ key }]);
    expect(await primary.rows('SELECT status FROM idempotency_keys')).toEqual([{ status: 'completed' }]);
    expect(await replica.rows(`SELECT to_regclass('idempotency_keys') AS found`)).toEqual([{ found: null }]);
    expect([first.status, second.status]).toEqual([201, 200]);
    expect([first, second, outside].map((answer) => answer.json())).toEqual([
      { seen: 1 },
      { seen: 1 },
      { seen: 100 },
    ]);
  });
});
