import { createHash, randomUUID } from 'node:crypto';
import { Body, Controller, InternalServerErrorException, Post } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { Idempotent } from 'nestjs-pg-idempotency';
import pg from 'pg';
import type { DataSource } from 'typeorm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, inject } from 'vitest';
import { idempotencySql } from '../libs/idempotency/src/store/idempotency.sql.js';
import { migrationSql } from '../libs/idempotency/src/store/migrations/migrator.js';
import { startApp, type TestApp } from './support/app.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { type Answer, send } from './support/http.js';
import { until } from './support/until.js';

const sql = idempotencySql('idempotency_keys', inject('postgresVersion'));
const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();

interface Locked {
  readonly attempt: number;
  readonly abandoned: number;
  readonly status: string;
  readonly begun: boolean;
}

interface Look {
  readonly locked_attempt: number | null;
  readonly locked_abandoned: number;
  readonly locked_status: string;
  readonly begun: boolean;
}

describe('the statements of a claim, by themselves', () => {
  let database: TestDatabase;
  let key: string;
  const clients: pg.Client[] = [];

  beforeAll(async () => {
    database = await createDatabase();
    await database.pool.query(migrationSql());
    await database.pool.query('CREATE TABLE effects (key text)');
  });
  afterAll(() => database?.drop());
  beforeEach(() => {
    key = randomUUID();
  });
  afterEach(() => Promise.all(clients.splice(0).map((client) => client.end())));

  /** A connection as a process of its own would have it. */
  async function connect() {
    const client = new pg.Client({ connectionString: database.url });
    client.on('error', () => undefined);
    clients.push(client);
    await client.connect();
    const values = (payload: string): Buffer[] => [sha256(key), sha256(payload)];
    return {
      client,
      claim: (payload = 'payload') =>
        client.query(sql.CLAIM, [sha256(key), 'test', '', key, 'POST /', sha256(payload), 60_000]),
      begin: () => client.query(sql.BEGIN),
      /** What the look has locked. */
      lock: async (payload = 'payload'): Promise<Locked[]> => {
        const { rows } = await client.query<Look>(sql.LOCK_OR_READ, [...values(payload), 60_000]);
        return rows.flatMap(({ locked_attempt, locked_abandoned, locked_status, begun }) =>
          locked_attempt === null
            ? []
            : [{ attempt: locked_attempt, abandoned: locked_abandoned, status: locked_status, begun }],
        );
      },
      lockWaiting: async () =>
        (await client.query<Locked>(sql.LOCK_WAITING, [...values('payload'), 60_000])).rows,
      pid: async () => (await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]?.pid,
      read: async (payload = 'payload') =>
        (await client.query<{ status: string; same: boolean; attempt: number }>(sql.READ, values(payload)))
          .rows,
      reclaim: (attempt: number, abandoned: number) =>
        client.query(sql.RECLAIM, [sha256(key), attempt, abandoned, 'POST /', sha256('payload'), 60_000]),
      /** Ends the backend without a goodbye, as the death of its process would. */
      die: async () => {
        const [row] = (await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows;
        await database.pool.query('SELECT pg_terminate_backend($1)', [row?.pid]);
        await until('the backend is gone', async () => {
          const rows = await database.rows('SELECT 1 FROM pg_stat_activity WHERE pid = $1', [row?.pid]);
          return rows.length === 0;
        });
      },
    };
  }
  const versions = (): Promise<object[]> =>
    database.rows('SELECT xmin, xmax, ctid FROM idempotency_keys WHERE key = $1', [key]);

  it('give one owner; the other sees the record pending, and does not wait', async () => {
    const [one, two] = [await connect(), await connect()];
    const claims = [await one.claim(), await two.claim()];
    await one.begin();
    expect(await one.lock()).toMatchObject([{ attempt: 1, abandoned: 0, status: 'pending', begun: false }]);
    await two.begin();
    const others = await two.lock();
    expect(others).toEqual([]);
    expect(await two.read()).toMatchObject([{ status: 'pending', same: true, attempt: 1 }]);
    expect(claims.map(({ rowCount }) => rowCount)).toEqual([1, 0]);
  });

  it('tell that an attempt had begun whose connection died, and nothing of its effect is left', async () => {
    const [one, two] = [await connect(), await connect()];
    await one.claim();
    await one.begin();
    await one.lock();
    await one.client.query('INSERT INTO effects VALUES ($1)', [key]);
    await one.die();
    await two.begin();
    const taken = await two.lock();
    expect(await database.rows('SELECT 1 FROM effects WHERE key = $1', [key])).toEqual([]);
    expect(taken).toMatchObject([{ attempt: 1, status: 'pending', begun: true }]);
  });

  it('tell that an attempt had begun which was rolled back', async () => {
    const [one, two] = [await connect(), await connect()];
    await one.claim();
    await one.begin();
    await one.lock();
    await one.client.query('ROLLBACK');
    await two.begin();
    expect(await two.lock()).toMatchObject([{ begun: true }]);
  });

  it('tell that a counted attempt has not begun, until somebody locks it', async () => {
    const [one, two, three] = [await connect(), await connect(), await connect()];
    await one.claim();
    await one.begin();
    await one.lock();
    await one.reclaim(1, 1);
    await one.client.query('COMMIT');
    await two.begin();
    expect(await two.lock()).toMatchObject([{ attempt: 2, abandoned: 1, status: 'pending', begun: false }]);
    await two.die();
    await three.begin();
    expect(await three.lock()).toMatchObject([{ attempt: 2, abandoned: 1, begun: true }]);
  });

  it('tell that a counted attempt has not begun to one who waited for the row while it was counted', async () => {
    const [one, two] = [await connect(), await connect()];
    await one.claim();
    await one.begin();
    await one.lock();
    const pid = await two.pid();
    await two.begin();
    const waiting = two.lockWaiting();
    await until('the other one waits for the row', async () => {
      const rows = await database.rows(
        `SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'`,
        [pid],
      );
      return rows.length === 1;
    });
    await one.reclaim(1, 1);
    await one.client.query('COMMIT');
    expect(await waiting).toMatchObject([{ attempt: 2, abandoned: 1, begun: false }]);
    await two.client.query('ROLLBACK');
    await one.begin();
    expect(await one.lock()).toMatchObject([{ attempt: 2, begun: true }]);
  });

  it('count in the outermost transaction: a new version made inside the savepoint would look begun', async () => {
    const [one, two] = [await connect(), await connect()];
    await one.claim();
    await one.begin();
    await one.lock();
    await one.client.query(sql.SAVEPOINT);
    await one.reclaim(1, 1);
    await one.client.query('COMMIT');
    await two.begin();
    // Why store.reclaim() releases the savepoint first.
    expect(await two.lock()).toMatchObject([{ attempt: 2, begun: true }]);
  });

  it('count an attempt once when two count it', async () => {
    const [one, two] = [await connect(), await connect()];
    await one.claim();
    await one.reclaim(1, 1);
    const late = await two.reclaim(1, 1);
    expect(await database.rows('SELECT attempt FROM idempotency_keys WHERE key = $1', [key])).toEqual([
      { attempt: 2 },
    ]);
    expect(late.rowCount).toBe(0);
  });

  it('leave no trace of a lock on a record of another payload, neither free nor abandoned', async () => {
    const [one, two] = [await connect(), await connect()];
    await one.claim();
    const before = await versions();
    await two.begin();
    const others = await two.lock('another payload');
    await two.client.query('COMMIT');
    expect(await versions()).toEqual(before);
    expect(others).toEqual([]);
    expect(await two.read('another payload')).toMatchObject([{ same: false }]);
    await one.begin();
    expect(await one.lock()).toMatchObject([{ begun: false }]);
  });

  it('do not take a record whose format they do not know, whatever became of it', async () => {
    const one = await connect();
    await one.claim();
    for (const change of [
      "status = 'error'",
      "status = 'pending'",
      'expires_at = now()',
      "lease_until = now() - interval '1 s'",
    ]) {
      await database.pool.query(`UPDATE idempotency_keys SET format = 3, ${change} WHERE key = $1`, [key]);
      await one.begin();
      const others = await one.lock();
      await one.client.query('ROLLBACK');
      expect(others).toEqual([]);
    }
  });

  it.each(["now() + interval '1 minute'", "now() - interval '1 ms'", "'-infinity'"])(
    'do not take a pending record of lease mode, whose lease ends at %s, expired or not',
    async (ends) => {
      const one = await connect();
      await one.claim();
      for (const expires of ["now() + interval '1 hour'", "now() - interval '1 hour'"]) {
        await database.pool.query(
          `UPDATE idempotency_keys SET lease_until = ${ends}, expires_at = ${expires} WHERE key = $1`,
          [key],
        );
        await one.begin();
        expect(await one.lock()).toEqual([]);
        await one.client.query('ROLLBACK');
      }
    },
  );

  it('still give one owner when VACUUM FREEZE has wiped the trace of a dead attempt, which then is not counted', async () => {
    const [one, two, three] = [await connect(), await connect(), await connect()];
    await one.claim();
    await one.begin();
    await one.lock();
    await one.die();
    await database.pool.query('VACUUM (FREEZE) idempotency_keys');
    await two.begin();
    expect(await two.lock()).toMatchObject([{ attempt: 1, abandoned: 0, begun: false }]);
    await three.begin();
    expect(await three.lock()).toEqual([]);
  });
});

@Controller('isolated')
class IsolatedController {
  readonly failOnce = new Set<string>();
  constructor(@InjectDataSource() private readonly dataSource: DataSource) {}

  @Post()
  @Idempotent()
  async add(@Body() { key }: { key: string }): Promise<object> {
    const [{ isolation }] = await this.dataSource.query<[{ isolation: string }]>(
      "SELECT current_setting('transaction_isolation') AS isolation",
    );
    await this.dataSource.query('INSERT INTO effects (key) VALUES ($1)', [key]);
    if (this.failOnce.delete(key)) throw new InternalServerErrorException();
    return { key, isolation };
  }
}

describe.each(
  ['repeatable read', 'serializable'].flatMap((isolation) =>
    [true, false].map((pipeline) => ({ isolation, pipeline })),
  ),
)('under a default of $isolation (pipeline: $pipeline)', ({ isolation, pipeline }) => {
  const CALLERS = 50;
  let database: TestDatabase;
  let app: TestApp;

  beforeAll(async () => {
    database = await createDatabase();
    await database.pool.query('CREATE TABLE effects (key text)');
    const name = new URL(database.url).pathname.slice(1);
    await database.pool.query(`ALTER DATABASE ${name} SET default_transaction_isolation = '${isolation}'`);
    app = await startApp({
      databaseUrl: database.url,
      controllers: [IsolatedController],
      poolSize: 20,
      pipeline,
      idempotency: { reapInterval: false },
    });
    expect(await app.dataSource.query('SHOW default_transaction_isolation')).toEqual([
      { default_transaction_isolation: isolation },
    ]);
  });
  afterAll(async () => {
    await app?.close();
    await database?.drop();
  });

  const post = (key: string): Promise<Answer> =>
    send(`${app.url}/isolated`, { body: { key }, headers: { 'Idempotency-Key': key } });
  const storm = (key: string): Promise<Answer[]> =>
    Promise.all(Array.from({ length: CALLERS }, () => post(key)));
  const effects = (key: string): Promise<object[]> =>
    database.rows('SELECT 1 FROM effects WHERE key = $1', [key]);

  it.each(['a', 'b', 'c'])(
    `${CALLERS} identical requests take effect once, and none fails (%s)`,
    async (key) => {
      const answers = await storm(key);
      expect(await effects(key)).toHaveLength(1);
      expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
      expect(answers.filter(({ status }) => ![200, 201, 409].includes(status))).toEqual([]);
      const first = answers.find(({ status }) => status === 201);
      expect(first?.json()).toEqual({ key, isolation: 'read committed' });
      for (const answer of answers.filter(({ status }) => status === 200))
        expect(answer.text).toBe(first?.text);
      expect((await post(key)).text).toBe(first?.text);
    },
  );

  it('a released key runs again once', async () => {
    app.app.get(IsolatedController).failOnce.add('released');
    const answers = [...(await storm('released')), ...(await storm('released'))];
    expect(await effects('released')).toHaveLength(1);
    expect(answers.filter(({ status }) => status === 500)).toHaveLength(1);
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
    expect(answers.filter(({ status }) => ![200, 201, 409, 500].includes(status))).toEqual([]);
  });

  it('an abandoned key is taken over once', async () => {
    app.app.get(IsolatedController).failOnce.add('abandoned');
    await post('abandoned');
    const owner = new pg.Client({ connectionString: database.url });
    owner.on('error', () => undefined);
    await owner.connect();
    // What a process leaves behind that dies in its handler: a pending record with the trace of a lock.
    await owner.query(`UPDATE idempotency_keys SET status = 'pending' WHERE key = 'abandoned'`);
    await owner.query('BEGIN');
    await owner.query(`SELECT 1 FROM idempotency_keys WHERE key = 'abandoned' FOR UPDATE`);
    const held = await storm('abandoned');
    await owner.query('ROLLBACK');
    await owner.end();
    const answers = await storm('abandoned');
    expect(await effects('abandoned')).toHaveLength(1);
    expect(await database.rows(`SELECT attempt FROM idempotency_keys WHERE key = 'abandoned'`)).toEqual([
      { attempt: 2 },
    ]);
    expect(new Set(held.map(({ status }) => status))).toEqual(new Set([409]));
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
    expect(answers.filter(({ status }) => ![200, 201, 409].includes(status))).toEqual([]);
  });
});
