import { randomUUID } from 'node:crypto';
import { Controller, Inject, Injectable, InternalServerErrorException, Param, Post } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { type Attempt, CurrentAttempt, Idempotent } from 'nestjs-pg-idempotency';
import type { Pool } from 'pg';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, expect, inject, it, describe } from 'vitest';
import { startApp, type TestApp, type TestAppOptions } from './support/app.js';
import { roundRobin, startCart } from './support/cart-process.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { send, statuses, type Answer } from './support/http.js';
import { describeWith } from './support/servers.js';
import { startPgBouncer, type PgBouncerServer } from './support/topology.js';
import { deferred, until, type Deferred } from './support/until.js';

/** Connections to PostgreSQL for each database: fewer than the applications have to PgBouncer. */
const BACKENDS = 5;
const DUPLICATES = 60;

/** Effects, and what both instances of a test share, which are one process here. */
@Injectable()
class Ledger {
  static readonly charges: string[] = [];
  static readonly committed: string[] = [];
  static readonly failing = new Set<string>();
  static readonly dying = new Set<string>();
  static readonly gates = new Map<string, Deferred>();

  constructor(@InjectDataSource() readonly dataSource: DataSource) {}

  async write(key: string, what: string): Promise<void> {
    await this.dataSource.query('INSERT INTO effects VALUES ($1, $2, pg_backend_pid())', [key, what]);
  }

  async committed(key: string): Promise<void> {
    const rows = await this.dataSource.query<{ status: string }[]>(
      'SELECT status FROM idempotency_keys WHERE key = $1',
      [key],
    );
    Ledger.committed.push(`${key} ${rows[0]?.status}`);
  }
}

@Controller()
class EffectsController {
  constructor(@Inject(Ledger) private readonly ledger: Ledger) {}

  @Post('rejecting/:key')
  @Idempotent({ scope: false })
  async rejecting(@Param('key') key: string, @CurrentAttempt() attempt: Attempt): Promise<string> {
    attempt.afterCommit(() => this.ledger.committed(key));
    await this.ledger.write(key, 'handled');
    if (Ledger.dying.delete(key)) {
      await this.ledger.dataSource.query('SELECT pg_terminate_backend(pg_backend_pid())');
    }
    return 'done';
  }

  @Post('waiting/:key')
  @Idempotent({ scope: false, onInFlight: 'wait' })
  async waiting(@Param('key') key: string): Promise<string> {
    await this.ledger.write(key, 'handled');
    await Ledger.gates.get(key)?.promise;
    return 'done';
  }

  @Post('lease/:key')
  @Idempotent({ scope: false, mode: 'lease' })
  async lease(@Param('key') key: string, @CurrentAttempt() attempt: Attempt): Promise<string> {
    attempt.afterCommit(() => this.ledger.committed(key));
    await attempt.phase('reserve', () => this.ledger.write(key, 'reserved'));
    await attempt.step('charge', () => void Ledger.charges.push(key));
    if (Ledger.failing.delete(key)) throw new InternalServerErrorException('after the charge');
    await attempt.phase('confirm', () => this.ledger.write(key, 'confirmed'));
    return 'bought';
  }
}

describeWith(['pgbouncer'], 'through PgBouncer in transaction pooling', () => {
  let pooler: PgBouncerServer;

  beforeAll(async () => {
    pooler = await startPgBouncer({
      serverUrl: inject('postgresUrl'),
      poolSize: BACKENDS,
      // The connection that has rested for longest is next: hardly ever the one that a client had last.
      settings: { server_round_robin: 1 },
    });
  });
  afterAll(() => pooler?.stop());

  const nameOf = (database: TestDatabase): string => new URL(database.directUrl).pathname.slice(1);
  const throughPooler = (database: TestDatabase): string => pooler.url(nameOf(database));

  describe.each([{ pipeline: true }, { pipeline: false }])(
    'two instances, pipeline: $pipeline',
    ({ pipeline }) => {
      let database: TestDatabase;
      let apps: TestApp[];
      let next: () => string;

      const start = (options: Partial<TestAppOptions> = {}): Promise<TestApp> =>
        startApp({
          databaseUrl: throughPooler(database),
          controllers: [EffectsController],
          providers: [Ledger],
          pipeline,
          idempotency: { reapInterval: false },
          ...options,
        });

      beforeAll(async () => {
        database = await createDatabase();
        await database.rows('CREATE TABLE effects (key text, what text, pid int)');
        apps = [await start(), await start()];
        next = roundRobin(apps);
      });
      afterAll(async () => {
        await Promise.all((apps ?? []).map((app) => app.close()));
        await database?.drop();
      });

      const post = (route: string, key: string, url = next()): Promise<Answer> =>
        send(`${url}/${route}/${key}`, { headers: { 'idempotency-key': key } });
      const storm = (route: string, key: string): Promise<Answer[]> =>
        Promise.all(Array.from({ length: DUPLICATES }, () => post(route, key)));
      const effects = async (key: string): Promise<string[]> =>
        (
          await database.rows<{ what: string }>('SELECT what FROM effects WHERE key = $1 ORDER BY what', [
            key,
          ])
        ).map(({ what }) => what);
      const bodies = (answers: readonly Answer[]): Set<string> =>
        new Set(answers.filter(({ status }) => status < 300).map(({ text }) => text));
      const committedOf = (key: string): Promise<string[] | false> =>
        until('afterCommit() has run', () => {
          const seen = Ledger.committed.filter((entry) => entry.startsWith(key));
          return seen.length > 0 && seen;
        });

      it('take effect once when duplicates come together, and run afterCommit() once, when it is committed', async () => {
        for (let round = 0; round < 3; round++) {
          const key = randomUUID();
          const answers = await storm('rejecting', key);
          expect(await effects(key)).toEqual(['handled']);
          const { 200: replays = 0, 201: firsts = 0, 409: conflicts = 0 } = statuses(answers);
          expect({ firsts, all: firsts + replays + conflicts }).toEqual({ firsts: 1, all: DUPLICATES });
          expect(bodies(answers)).toEqual(new Set(['done']));
          expect(await committedOf(key)).toEqual([`${key} completed`]);
        }
      });

      it('let duplicates wait, and answer them all when the first is done', async () => {
        const key = randomUUID();
        const gate = deferred();
        Ledger.gates.set(key, gate);
        const first = post('waiting', key);
        await until('the handler runs', async () => {
          const rows = await database.rows(
            `SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'`,
          );
          return rows.length > 0;
        });
        const duplicates = storm('waiting', key);
        await until('a duplicate waits for the row', async () => {
          const rows = await database.rows(
            `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
          );
          return rows.length > 0;
        });
        gate.resolve();
        const answers = [await first, ...(await duplicates)];
        expect(await effects(key)).toEqual(['handled']);
        expect(statuses(answers)).toEqual({ 201: 1, 200: DUPLICATES });
        expect(bodies(answers)).toEqual(new Set(['done']));
      });

      it('charge once in lease mode, whose phases commit once each', async () => {
        const key = randomUUID();
        const answers = await storm('lease', key);
        expect(await effects(key)).toEqual(['confirmed', 'reserved']);
        expect(Ledger.charges.filter((charged) => charged === key)).toHaveLength(1);
        const { 200: replays = 0, 201: firsts = 0, 409: conflicts = 0 } = statuses(answers);
        expect({ firsts, all: firsts + replays + conflicts }).toEqual({ firsts: 1, all: DUPLICATES });
        expect(await committedOf(key)).toEqual([`${key} completed`]);
      });

      it('go on behind the last phase and step when an attempt has failed', async () => {
        const key = randomUUID();
        Ledger.failing.add(key);
        const failed = await post('lease', key);
        expect(await effects(key)).toEqual(['reserved']);
        const retried = await post('lease', key);
        expect(await effects(key)).toEqual(['confirmed', 'reserved']);
        expect(Ledger.charges.filter((charged) => charged === key)).toHaveLength(1);
        expect([failed.status, retried.status]).toEqual([500, 201]);
      });

      it('answer 503 when the backend is terminated, without an effect, and run again', async () => {
        const key = randomUUID();
        Ledger.dying.add(key);
        const cut = await post('rejecting', key);
        expect(await effects(key)).toEqual([]);
        const retried = await post('rejecting', key);
        expect(await effects(key)).toEqual(['handled']);
        expect([cut.status, retried.status]).toEqual([503, 201]);
      });

      it('need no backend of their own: transactions of one connection run on several', async () => {
        const lone = await start({ poolSize: 1 });
        try {
          const keys = Array.from({ length: 2 * BACKENDS }, () => randomUUID());
          for (const key of keys) {
            const route = keys.indexOf(key) % 2 === 0 ? 'rejecting' : 'lease';
            expect((await post(route, key, lone.url)).status).toBe(201);
          }
          const used = await database.rows(`SELECT DISTINCT pid FROM effects WHERE key = ANY ($1)`, [keys]);
          const { master } = lone.dataSource.driver as unknown as { master: Pool };
          expect(used.length).toBeGreaterThan(1);
          expect(master.totalCount).toBe(1);
        } finally {
          await lone.close();
        }
      });

      it('leave nothing behind on a backend: no transaction, no lock, no setting', async () => {
        const mine = `datname = current_database() AND pid <> pg_backend_pid() AND application_name <> 'looking'`;
        const open = await until('no transaction is open', async () => {
          const rows = await database.rows(`SELECT state FROM pg_stat_activity WHERE ${mine}`);
          return rows.every(({ state }) => state === 'idle') && rows;
        });
        expect(open.length).toBeGreaterThan(1);
        expect(open.length).toBeLessThanOrEqual(BACKENDS);
        const locks = await database.rows(
          `SELECT FROM pg_locks JOIN pg_database d ON d.oid = database
            WHERE locktype = 'advisory' AND datname = current_database()`,
        );
        expect(locks).toEqual([]);
        // As many transactions at once as there are backends: each is asked.
        const settings = await Promise.all(
          Array.from({ length: BACKENDS }, () =>
            (apps[0] as TestApp).dataSource.query<Record<string, string>[]>(
              `SELECT current_setting('lock_timeout') AS lock, current_setting('synchronous_commit') AS commit,
                      current_setting('idle_in_transaction_session_timeout') AS idle, pg_sleep(0.2)::text`,
            ),
          ),
        );
        for (const row of settings.flat()) expect(row).toMatchObject({ lock: '0', commit: 'on', idle: '0' });
      });

      it('prepare nothing through a pooler, whose next transaction may have another backend', async () => {
        await Promise.all(
          Array.from({ length: 20 }, () =>
            send(`${(apps[0] as TestApp).url}/rejecting/${randomUUID()}`, {
              headers: { 'idempotency-key': randomUUID() },
            }),
          ),
        );
        const kept = await Promise.all(
          Array.from({ length: BACKENDS }, () =>
            (apps[0] as TestApp).dataSource.query<{ name: string | null }[]>(
              'SELECT name FROM pg_sleep(0.2) LEFT JOIN pg_prepared_statements ON true',
            ),
          ),
        );
        expect(kept.flat().filter(({ name }) => name !== null)).toEqual([]);
      });
    },
  );

  it('several instances start at once on one empty database', async () => {
    const database = await createDatabase();
    const apps = await Promise.all(
      Array.from({ length: 4 }, () => startApp({ databaseUrl: throughPooler(database), poolSize: 2 })),
    );
    try {
      const applied = await database.rows('SELECT name FROM idempotency_keys_migrations ORDER BY name');
      expect(applied).toEqual([{ name: '0001-records' }, { name: '0002-leases' }]);
    } finally {
      await Promise.all(apps.map((app) => app.close()));
      await database.drop();
    }
  });

  it('several instances of the cart start at once on one empty database, its queue included', async () => {
    const database = await createDatabase();
    // Fewer backends than instances: those that wait for their turn leave one to the one that has it.
    const narrow = await startPgBouncer({ serverUrl: inject('postgresUrl'), poolSize: 2 });
    const started = await Promise.allSettled(
      Array.from({ length: 3 }, () => startCart({ databaseUrl: narrow.url(nameOf(database)) })),
    );
    const carts = started.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    try {
      expect(started.filter(({ status }) => status === 'rejected')).toEqual([]);
      const key = randomUUID();
      const answers = [];
      for (const { url } of carts) {
        answers.push(
          await send(`${url}/carts/alice/items`, {
            headers: { 'idempotency-key': key },
            body: { itemId: 'book', quantity: 2 },
          }),
        );
      }
      expect(await database.rows('SELECT quantity FROM cart_items')).toEqual([{ quantity: 2 }]);
      expect(answers.map(({ status }) => status)).toEqual([201, 200, 200]);
    } finally {
      await Promise.all(carts.map((cart) => cart.end()));
      await narrow.stop();
      await database.drop();
    }
  });
});
