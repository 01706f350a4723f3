import { randomUUID } from 'node:crypto';
import { Controller, Param, Post } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { Idempotent } from 'nestjs-pg-idempotency';
import pg from 'pg';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PreparedStatements } from '../libs/idempotency/src/store/prepared-statements.js';
import { Session } from '../libs/idempotency/src/store/session.js';
import { startWireCounter } from '../bench/wire/wire-counter.js';
import { startApp, type TestApp } from './support/app.js';
import { createDatabase, isPooled, type TestDatabase } from './support/database.js';
import { send, statuses } from './support/http.js';

@Controller()
class OrdersController {
  constructor(@InjectDataSource() private readonly dataSource: DataSource) {}

  @Post('orders/:name')
  @Idempotent({ scope: false })
  async add(@Param('name') name: string): Promise<string> {
    await this.dataSource.query('INSERT INTO orders VALUES ($1)', [name]);
    if (name === 'forgets') await this.dataSource.query('DEALLOCATE ALL');
    return name;
  }
}

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
  await database.rows('CREATE TABLE orders (name text NOT NULL)');
});
afterAll(() => database.drop());

const orders = async (name: string): Promise<number> =>
  (await database.rows('SELECT FROM orders WHERE name = $1', [name])).length;

describe.each([true, false])('a batch, with pipeline %s', (pipeline) => {
  const using = async <T>(
    work: (session: Session, url: string) => Promise<T>,
    prepared?: PreparedStatements,
  ): Promise<T> => {
    const client = new pg.Client({ connectionString: database.url, pipeline });
    await client.connect();
    try {
      return await work(new Session(client, () => undefined, prepared), database.url);
    } finally {
      await client.end();
    }
  };

  it('is one round trip, its answers in the order of its statements', async () => {
    const wire = await startWireCounter(database.url);
    const client = new pg.Client({ connectionString: wire.url, pipeline });
    await client.connect();
    try {
      const before = wire.counts();
      const answers = await new Session(client, () => undefined).batch([
        { text: 'BEGIN' },
        {
          text: 'SELECT $1::int AS n, $2::bytea AS bytes, $3::text AS nothing',
          values: [7, Buffer.of(0, 255), null],
        },
        { text: 'SELECT n FROM generate_series(1, 3) AS n' },
        { text: 'COMMIT' },
      ]);
      const after = wire.counts();
      expect([after.roundTrips - before.roundTrips, after.statements - before.statements]).toEqual([1, 4]);
      expect(answers).toEqual([
        { command: 'BEGIN', rowCount: 0, rows: [] },
        { command: 'SELECT', rowCount: 1, rows: [{ n: 7, bytes: Buffer.of(0, 255), nothing: null }] },
        { command: 'SELECT', rowCount: 3, rows: [{ n: 1 }, { n: 2 }, { n: 3 }] },
        { command: 'COMMIT', rowCount: 0, rows: [] },
      ]);
    } finally {
      await client.end();
      await wire.stop();
    }
  });

  it('carries out nothing behind a statement that fails, COMMIT least of all', async () => {
    const name = randomUUID();
    await using(async (session) => {
      const failing = session.batch([
        { text: 'BEGIN' },
        { text: 'INSERT INTO orders VALUES ($1)', values: [name] },
        { text: 'SELECT 1 / 0' },
        { text: 'COMMIT' },
      ]);
      await expect(failing).rejects.toMatchObject({ code: '22012' });
      await session.query({ text: 'ROLLBACK' });
      await expect(session.batch([{ text: 'SELECT 1 AS n' }])).resolves.toMatchObject([{ rows: [{ n: 1 }] }]);
    });
    expect(await orders(name)).toBe(0);
  });

  it('reads answers alike when it prepares a statement, when it has, and when it prepares it anew', async () => {
    const prepared = new PreparedStatements();
    prepared.turnOn();
    await using(async (session) => {
      for (let n = 0; n < 505; n++) {
        const answers = await session.batch([{ text: 'SELECT $1::int AS n, now() AS at', values: [n] }]);
        expect(answers[0]?.rows).toEqual([{ n, at: expect.any(Date) as Date }]);
      }
      // A backend of a pooler may be another one by now.
      if (isPooled()) return;
      const known = await session.query<{ executions: string }>({
        text: 'SELECT generic_plans + custom_plans AS executions FROM pg_prepared_statements',
      });
      expect(known.rows).toEqual([{ executions: '5' }]);
    }, prepared);
  });

  it('prepares a statement once more when the one that prepared it had failed', async () => {
    const prepared = new PreparedStatements();
    prepared.turnOn();
    await using(async (session) => {
      const divide = { text: 'SELECT 6 / $1::int AS n', values: [0] };
      await expect(session.batch([divide])).rejects.toMatchObject({ code: '22012' });
      await expect(session.batch([{ ...divide, values: [2] }])).resolves.toMatchObject([
        { rows: [{ n: 3 }] },
      ]);
    }, prepared);
  });

  it('ends with the connection, at once', async () => {
    await using(async (session) => {
      const [answer] = await session.batch([{ text: 'SELECT pg_backend_pid() AS pid' }]);
      const waiting = session.batch([{ text: 'BEGIN' }, { text: 'SELECT pg_sleep(60)' }, { text: 'COMMIT' }]);
      const failed = expect(waiting).rejects.toThrow();
      await database.rows('SELECT pg_terminate_backend($1)', [answer?.rows[0]?.['pid']]);
      await failed;
    });
  });
});

describe.each([true, false])('statements that a connection has forgotten, with pipeline %s', (pipeline) => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp({
      databaseUrl: database.url,
      controllers: [OrdersController],
      poolSize: 1,
      pipeline,
    });
  });
  afterAll(() => app.close());

  const order = (name: string, key: string = randomUUID()) =>
    send(`${app.url}/orders/${name}`, { method: 'POST', headers: { 'idempotency-key': key } });

  it('are sent again, so that the request runs once, and every one behind it', async () => {
    const names = [randomUUID(), randomUUID(), randomUUID()] as const;
    expect((await order(names[0])).status).toBe(201);
    await app.dataSource.query('DEALLOCATE ALL');
    const answers = [await order(names[1]), await order(names[2])];
    expect(await Promise.all(names.map(orders))).toEqual([1, 1, 1]);
    expect(statuses(answers)).toEqual({ 201: 2 });
  });

  it('leave nothing of a handler that made its own connection forget them, and a retry runs', async () => {
    // On again, as after a start.
    await app.close();
    app = await startApp({
      databaseUrl: database.url,
      controllers: [OrdersController],
      poolSize: 1,
      pipeline,
    });
    const [known, key] = [randomUUID(), randomUUID()];
    expect((await order(known)).status).toBe(201);
    const before = await orders('forgets');
    const first = await order('forgets', key);
    const [afterFirst, second] = [await orders('forgets'), await order('forgets', key)];
    expect((await orders('forgets')) - before).toBe(1);
    // A pooler has statements without a name, which nothing can make it forget.
    expect(afterFirst - before).toBe(isPooled() ? 1 : 0);
    expect([first.status, second.status]).toEqual(isPooled() ? [201, 200] : [500, 201]);
  });
});
