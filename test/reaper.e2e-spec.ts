import { Body, Controller, Post } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { Idempotent, type IdempotencyEvent, IdempotencyEvents } from 'nestjs-pg-idempotency';
import pg from 'pg';
import type { DataSource } from 'typeorm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, inject } from 'vitest';
import { acquire } from '../libs/idempotency/src/engine/acquire.js';
import { FinishedKeys } from '../libs/idempotency/src/engine/finished-keys.js';
import { ExpiredRecordReaper } from '../libs/idempotency/src/reaper/expired-record.reaper.js';
import { IdempotencyStore } from '../libs/idempotency/src/store/idempotency.store.js';
import type { ConnectionSource } from '../libs/idempotency/src/store/session.js';
import { startApp, type TestApp, type TestAppOptions } from './support/app.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { type Answer, send } from './support/http.js';
import { problemCode } from './support/stage.js';
import { until } from './support/until.js';

@Controller('effects')
class EffectsController {
  constructor(@InjectDataSource() private readonly dataSource: DataSource) {}

  @Post()
  @Idempotent()
  async add(@Body() { key }: { key: string }): Promise<object> {
    const [row] = await this.dataSource.query<[{ id: number }]>(
      'INSERT INTO effects (key) VALUES ($1) RETURNING id',
      [key],
    );
    return row;
  }
}

/** Key of the advisory lock behind which a test stops the reaper inside PostgreSQL. */
const GATE = 4711;
const TWO_TABLES = ['idempotency_keys', 'other_keys'];

let database: TestDatabase;
const pools: pg.Pool[] = [];
const apps: TestApp[] = [];

beforeAll(async () => {
  database = await createDatabase();
  for (const table of TWO_TABLES) await (await start({ table })).close();
  await database.pool.query('CREATE TABLE effects (id serial PRIMARY KEY, key text NOT NULL)');
});
afterAll(() => database?.drop());
beforeEach(() => database.pool.query(`TRUNCATE effects, ${TWO_TABLES.join(', ')} CASCADE`));
afterEach(async () => {
  await Promise.all(apps.splice(0).map((app) => app.close()));
  await Promise.all(pools.splice(0).map((pool) => pool.end()));
});

async function start(
  idempotency: TestAppOptions['idempotency'],
  options: Partial<TestAppOptions> = {},
): Promise<TestApp> {
  const app = await startApp({
    databaseUrl: database.url,
    controllers: [EffectsController],
    poolSize: 5,
    idempotency: { reapInterval: false, ...idempotency },
    ...options,
  });
  apps.push(app);
  return app;
}

/** A reaper of its own beside the application, with a count of the batches it sends. */
function makeReaper({ batch = 1_000, table = 'idempotency_keys', settings = '' } = {}) {
  const pool = new pg.Pool({
    // Settings of a session are for those who have one to themselves.
    connectionString: settings === '' ? database.url : database.directUrl,
    max: 2,
    ...(settings === '' ? {} : { options: settings }),
  });
  pool.on('error', () => undefined);
  pools.push(pool);
  const sessions = { count: 0 };
  const source: ConnectionSource = {
    connect: async () => {
      sessions.count++;
      const client = await pool.connect();
      return { client: client as unknown as pg.Client, release: (error) => client.release(error) };
    },
  };
  const events: IdempotencyEvent[] = [];
  const store = new IdempotencyStore(table, source, inject('postgresVersion'));
  const reaper = new ExpiredRecordReaper(
    store,
    { intervalMs: undefined, batch, acquireTimeoutMs: 10_000 },
    (event) => void events.push(event),
  );
  return { reaper, store, events, sessions };
}

interface Row {
  readonly status?: 'pending' | 'completed' | 'error';
  /** From now, as PostgreSQL writes an interval. */
  readonly expires: string;
  readonly lease?: string;
}

async function insert(
  key: string,
  { status = 'completed', expires, lease }: Row,
  table = 'idempotency_keys',
): Promise<void> {
  await database.pool.query(
    `INSERT INTO ${table} (key_hash, namespace, scope, key, operation, fingerprint, status, expires_at, lease_until)
     VALUES (sha256($1::text::bytea), '', '', $1, 'POST /', '\\x00', $2, clock_timestamp() + $3::interval,
             clock_timestamp() + $4::interval)`,
    [key, status, expires, lease ?? null],
  );
}
const keys = async (table = 'idempotency_keys'): Promise<string[]> =>
  (await database.rows<{ key: string }>(`SELECT key FROM ${table} ORDER BY key`)).map(({ key }) => key);

/** Runs `work` while another connection holds the lock that `statement` takes. */
async function holding<T>(statement: string, work: () => Promise<T>): Promise<T> {
  const client = await database.pool.connect();
  try {
    await client.query('BEGIN');
    await client.query(statement);
    return await work();
  } finally {
    await client.query('ROLLBACK');
    client.release();
  }
}
const holdGate = `SELECT pg_advisory_xact_lock(${GATE})`;
const atGate = (): Promise<true> =>
  until('the reaper stands at the gate', async () => {
    const rows = await database.rows(
      `SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = ${GATE} AND NOT granted
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    );
    return rows.length > 0;
  });

describe('the reaper', () => {
  it('deletes expired records, whatever their status, and no other', async () => {
    for (const status of ['pending', 'completed', 'error'] as const) {
      await insert(`expired ${status}`, { status, expires: '-1 ms' });
      await insert(`live ${status}`, { status, expires: '1 minute' });
    }
    await insert('long gone', { expires: '-10 years' });
    const { reaper, events } = makeReaper();
    const deleted = await reaper.reap();
    expect(await keys()).toEqual(['live completed', 'live error', 'live pending']);
    expect(deleted).toBe(4);
    expect(events).toEqual([{ type: 'reaped', count: 4 }]);
  });

  it('says nothing when nothing has expired', async () => {
    await insert('live', { expires: '1 minute' });
    const { reaper, events } = makeReaper();
    expect(await reaper.reap()).toBe(0);
    expect(await keys()).toEqual(['live']);
    expect(events).toEqual([]);
  });

  it.each(['FOR UPDATE', 'FOR NO KEY UPDATE', 'FOR SHARE', 'FOR KEY SHARE'])(
    'neither deletes nor waits for a record that a live transaction holds %s',
    async (lock) => {
      await insert('held', { status: 'pending', expires: '-1 hour' });
      await insert('free', { expires: '-1 hour' });
      const { reaper } = makeReaper();
      const deleted = await holding(`SELECT 1 FROM idempotency_keys WHERE key = 'held' ${lock}`, () =>
        reaper.reap(),
      );
      expect(await keys()).toEqual(['held']);
      expect(deleted).toBe(1);
      expect(await reaper.reap()).toBe(1);
      expect(await keys()).toEqual([]);
    },
  );

  it('never deletes a record that lease mode has not finished, whether its lease runs or is over', async () => {
    await insert('leased', { status: 'pending', expires: '-1 hour', lease: '1 minute' });
    await insert('lease over', { status: 'pending', expires: '-1 hour', lease: '-1 ms' });
    await insert('finished', { status: 'completed', expires: '-1 hour', lease: '-1 ms' });
    const { reaper } = makeReaper();
    const deleted = await reaper.reap();
    expect(await keys()).toEqual(['lease over', 'leased']);
    expect(deleted).toBe(1);
  });

  it.each([
    [35, 10, 4],
    [30, 10, 4],
    [9, 10, 1],
    [0, 10, 1],
    [5, 1, 6],
  ])('deletes %d records in batches of %d with %d statements', async (records, batch, statements) => {
    for (let index = 0; index < records; index++) await insert(`k${index}`, { expires: `-${index + 1} s` });
    await insert('live', { expires: '1 minute' });
    const { reaper, sessions } = makeReaper({ batch });
    const deleted = await reaper.reap();
    expect(await keys()).toEqual(['live']);
    expect(deleted).toBe(records);
    expect(sessions.count).toBe(statements);
  });

  it('goes through its batches although records in between are held', async () => {
    for (let index = 0; index < 30; index++)
      await insert(`k${String(index).padStart(2, '0')}`, { expires: `-${100 - index} s` });
    const { reaper } = makeReaper({ batch: 10 });
    const deleted = await holding(`SELECT 1 FROM idempotency_keys WHERE key < 'k15' FOR UPDATE`, () =>
      reaper.reap(),
    );
    expect((await keys()).every((key) => key < 'k15')).toBe(true);
    expect(deleted).toBe(15);
  });

  describe('stopped in the middle of its statement', () => {
    beforeAll(async () => {
      await database.pool.query(`
        CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock_shared(${GATE}); RETURN OLD; END $$`);
    });
    beforeEach(() =>
      database.pool.query(
        'CREATE TRIGGER gate BEFORE DELETE ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION gate()',
      ),
    );
    afterEach(() => database.pool.query('DROP TRIGGER gate ON idempotency_keys'));

    it('has the turn for its table: another instance neither deletes nor waits', async () => {
      for (let index = 0; index < 5; index++) await insert(`k${index}`, { expires: '-1 s' });
      const first = makeReaper({ batch: 2 });
      const second = makeReaper();
      let reaping: Promise<number> | undefined;
      await holding(holdGate, async () => {
        reaping = first.reaper.reap();
        await atGate();
        expect(await second.reaper.reap()).toBe(0);
        expect(await keys()).toHaveLength(5);
      });
      expect(await reaping).toBe(5);
      expect(await keys()).toEqual([]);
      // The turn ended with the statement.
      await insert('later', { expires: '-1 s' });
      expect(await second.reaper.reap()).toBe(1);
    });

    it('leaves the turn for another table to others', async () => {
      await insert('k', { expires: '-1 s' });
      await insert('k', { expires: '-1 s' }, 'other_keys');
      const first = makeReaper();
      const other = makeReaper({ table: 'other_keys' });
      let reaping: Promise<number> | undefined;
      await holding(holdGate, async () => {
        reaping = first.reaper.reap();
        await atGate();
        expect(await other.reaper.reap()).toBe(1);
      });
      expect(await reaping).toBe(1);
    });

    it('is waited for when the application ends, and begins no further batch', async () => {
      for (let index = 0; index < 5; index++) await insert(`k${index}`, { expires: `-${10 - index} s` });
      let closed = false;
      let closing: Promise<void> | undefined;
      await holding(holdGate, async () => {
        // Its first batch is one that comes to the gate.
        const app = await start({ reapInterval: '10ms', reapBatch: 2 });
        await atGate();
        closing = (async () => {
          await app.close();
          closed = true;
        })();
        await database.rows('SELECT 1');
        expect(closed).toBe(false);
      });
      await closing;
      apps.splice(0);
      expect(await keys()).toEqual(['k2', 'k3', 'k4']);
    });
  });

  describe.each(['read committed', 'repeatable read', 'serializable'])(
    'under a default of %s',
    (isolation) => {
      // A function of this name, found first, stops the statement after its snapshot is taken and before it looks at rows.
      beforeAll(() =>
        database.pool.query(`
        CREATE SCHEMA gate;
        CREATE FUNCTION gate.pg_try_advisory_xact_lock(bigint) RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock_shared(${GATE}); RETURN true; END $$`),
      );
      afterAll(() => database.pool.query('DROP SCHEMA gate CASCADE'));
      const settings = `-c search_path=gate,pg_catalog,public -c default_transaction_isolation=${isolation.replace(' ', '\\ ')}`;

      it('does not delete a record that was reclaimed after it had begun to look', async () => {
        await insert('k', { expires: '-1 s' });
        await insert('gone', { expires: '-1 s' });
        const [row] = await database.rows<{ key_hash: Buffer; fingerprint: Buffer }>(
          `SELECT key_hash, fingerprint FROM idempotency_keys WHERE key = 'k'`,
        );
        const identity = {
          namespace: '',
          scope: '',
          key: 'k',
          operation: 'POST /',
          keyHash: row?.key_hash ?? Buffer.of(),
          fingerprint: row?.fingerprint ?? Buffer.of(),
        };
        const policy = {
          mode: 'transaction',
          leaseMs: 30_000,
          onAbandoned: 'retry',
          ttlMs: 60_000,
          maxRuntimeMs: 60_000,
          maxAttempts: 5,
          onInFlight: 'reject',
          waitTimeoutMs: 1,
        } as const;
        const { reaper } = makeReaper({ settings });
        const owner = makeReaper();
        let reaping: Promise<number> | undefined;
        await holding(holdGate, async () => {
          reaping = reaper.reap();
          await atGate();
          const acquired = await acquire(
            {
              store: owner.store,
              settings: { acquireTimeoutMs: 5_000, maxWaiters: 1 },
              finished: new FinishedKeys(),
            },
            identity,
            policy,
          );
          if (acquired.kind !== 'owned')
            throw new Error(`the expired record was not taken: ${acquired.kind}`);
          const completed = await owner.store.complete(acquired.session, {
            keyHash: identity.keyHash,
            attempt: acquired.attempt,
            status: 'completed',
            response: { status: 201, headers: {}, body: Buffer.from('{}') },
          });
          acquired.session.release();
          expect(completed).toMatchObject({ kind: 'committed' });
        });
        const deleted = await reaping;
        expect(
          await database.rows(
            'SELECT key, status, attempt, expires_at > now() AS live FROM idempotency_keys',
          ),
        ).toEqual([{ key: 'k', status: 'completed', attempt: 2, live: true }]);
        expect(deleted).toBe(1);
      });
    },
  );
});

describe('the interval', () => {
  it('reaps again and again', async () => {
    const app = await start({ reapInterval: '20ms' });
    const reaped: number[] = [];
    app.app.get(IdempotencyEvents).events.subscribe((event) => {
      if (event.type === 'reaped') reaped.push(event.count);
    });
    for (let round = 1; round <= 3; round++) {
      await insert('k', { expires: '-1 s' });
      await insert('live', { expires: '1 hour' }).catch(() => undefined);
      await until('the expired record is gone', async () => (await keys()).join() === 'live');
    }
    expect(reaped).toEqual([1, 1, 1]);
  });

  it('goes on after a round that failed, which is told', async () => {
    const told: string[] = [];
    const logger = {
      log: () => undefined,
      error: () => undefined,
      warn: (text: unknown) => void told.push(String(text)),
    };
    await start({ reapInterval: '20ms' }, { prepare: (app) => app.useLogger(logger) });
    await database.pool.query('ALTER TABLE idempotency_keys RENAME TO away');
    try {
      await until('the failure is told', () =>
        told.some((text) => text.startsWith('Expired records were not deleted (42P01)')),
      );
    } finally {
      await database.pool.query('ALTER TABLE away RENAME TO idempotency_keys');
    }
    await insert('k', { expires: '-1 s' });
    await until('the expired record is gone', async () => (await keys()).length === 0);
  });

  it('can be switched off', async () => {
    await insert('kept', { expires: '-1 s' });
    await start({ reapInterval: false });
    // A neighbour with an interval tells that there was time.
    await start({ reapInterval: '20ms', table: 'other_keys' });
    for (let round = 1; round <= 5; round++) {
      await insert('k', { expires: '-1 s' }, 'other_keys');
      await until("the neighbour's record is gone", async () => (await keys('other_keys')).length === 0);
    }
    expect(await keys()).toEqual(['kept']);
  });
});

describe('reaping under load', () => {
  const CALLERS = 100;
  const REQUESTS = 10;
  const KEYS = 7;

  it('never lets a handler run without a claim: as many effects as first answers', async () => {
    const app = await start({ ttl: '100ms', maxRuntime: '100ms', reapInterval: '10ms' }, { poolSize: 10 });
    let reaped = 0;
    app.app.get(IdempotencyEvents).events.subscribe((event) => {
      if (event.type === 'reaped') reaped += event.count;
    });
    const caller = async (number: number): Promise<Answer[]> => {
      const answers: Answer[] = [];
      for (let request = 0; request < REQUESTS; request++) {
        const key = `key-${(number + request) % KEYS}`;
        answers.push(
          await send(`${app.url}/effects`, { body: { key }, headers: { 'Idempotency-Key': key } }),
        );
      }
      return answers;
    };
    const answers = (
      await Promise.all(Array.from({ length: CALLERS }, (_, number) => caller(number)))
    ).flat();

    const effects = await database.rows<{ id: number }>('SELECT id FROM effects ORDER BY id');
    const first = answers
      .filter(({ status }) => status === 201)
      .map((answer) => answer.json<{ id: number }>().id);
    const unknown = answers.filter(
      (answer) => answer.status === 503 && problemCode(answer) === 'IDEMPOTENCY_OUTCOME_UNKNOWN',
    );
    const there = new Set(effects.map(({ id }) => id));
    const acknowledged = new Set(first);
    // What was acknowledged is there, once each; and what was not, nobody could tell, as the answer says.
    expect(first.filter((id) => !there.has(id))).toEqual([]);
    expect(acknowledged.size).toBe(first.length);
    expect(there.size - acknowledged.size).toBeLessThanOrEqual(unknown.length);
    // A replay answers one of those effects, and nothing fails but by the clock.
    for (const answer of answers.filter(({ status }) => status === 200)) {
      expect(there.has(answer.json<{ id: number }>().id)).toBe(true);
    }
    expect(answers.filter(({ status }) => ![200, 201, 409, 503].includes(status))).toEqual([]);
    // Otherwise nothing was shown: keys expired, were deleted, and were claimed anew.
    expect(effects.length).toBeGreaterThan(KEYS);
    expect(reaped).toBeGreaterThan(0);
  }, 30_000);
});
