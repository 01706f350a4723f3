import { randomUUID } from 'node:crypto';
import http from 'node:http';
import { AttemptSettledError, Idempotent, outsideAttempt } from 'nestjs-pg-idempotency';
import type { Pool } from 'pg';
import { DataSource } from 'typeorm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { SETUPS } from './support/app.js';
import { send } from './support/http.js';
import {
  JournalEntry,
  LedgerEntry,
  openStage,
  type Scene,
  scripted,
  type StagedApp,
} from './support/stage.js';
import { deferred, until } from './support/until.js';

/** How handlers write; each leaves exactly these notes in the ledger, in any order. */
const WAYS: readonly {
  name: string;
  write: (scene: Scene) => Promise<unknown>;
  leaves: readonly string[];
}[] = [
  {
    name: 'a repository: save, find, update, remove',
    write: async ({ ledger, label }) => {
      const kept = await ledger.save({ label, note: 'kept' });
      const gone = await ledger.save({ label, note: 'gone' });
      expect(await ledger.countBy({ label })).toBe(2);
      await ledger.remove(await ledger.findOneByOrFail({ id: gone.id }));
      await ledger.update({ id: kept.id }, { note: 'updated' });
    },
    leaves: ['updated'],
  },
  {
    name: 'a repository: save of several entities at once',
    write: ({ ledger, label }) =>
      ledger.save([
        { label, note: 'a' },
        { label, note: 'b' },
      ]),
    leaves: ['a', 'b'],
  },
  {
    name: 'the injected EntityManager',
    write: async ({ manager, label }) => {
      await manager.save(LedgerEntry, { label, note: 'a' });
      await manager.insert(LedgerEntry, { label, note: 'b' });
      expect(await manager.countBy(LedgerEntry, { label })).toBe(2);
    },
    leaves: ['a', 'b'],
  },
  {
    name: "the attempt's own EntityManager",
    write: async ({ attempt, label }) => {
      await attempt.manager.save(LedgerEntry, { label, note: 'a' });
      await attempt.manager.getRepository(LedgerEntry).insert({ label, note: 'b' });
      await attempt.manager.query(`INSERT INTO ledger (label, note) VALUES ($1, 'c')`, [label]);
    },
    leaves: ['a', 'b', 'c'],
  },
  {
    name: 'query builders',
    write: async ({ dataSource, ledger, label }) => {
      await dataSource
        .createQueryBuilder()
        .insert()
        .into(LedgerEntry)
        .values([
          { label, note: 'a' },
          { label, note: 'b' },
        ])
        .execute();
      await ledger.createQueryBuilder().update().set({ note: 'c' }).where({ label, note: 'b' }).execute();
      expect(await ledger.createQueryBuilder('e').where({ label }).getCount()).toBe(2);
    },
    leaves: ['a', 'c'],
  },
  {
    name: 'raw queries of the data source',
    write: async ({ dataSource, label }) => {
      await dataSource.query(`INSERT INTO ledger (label, note) VALUES ($1, 'raw')`, [label]);
      const found: unknown = await dataSource.query('SELECT note FROM ledger WHERE label = $1', [label]);
      expect(found).toEqual([{ note: 'raw' }]);
    },
    leaves: ['raw'],
  },
  {
    name: 'a nested dataSource.transaction()',
    write: async ({ dataSource, ledger, label }) => {
      await ledger.save({ label, note: 'before' });
      await dataSource.transaction(async (manager) => {
        await manager.save(LedgerEntry, { label, note: 'inside' });
        await ledger.save({ label, note: 'inside, by repository' });
      });
      await ledger.save({ label, note: 'after' });
    },
    leaves: ['before', 'inside', 'inside, by repository', 'after'],
  },
  {
    name: 'a nested transaction with an isolation level',
    write: ({ dataSource, label }) =>
      dataSource.transaction('SERIALIZABLE', (manager) => manager.save(LedgerEntry, { label, note: 'a' })),
    leaves: ['a'],
  },
  {
    name: "the attempt's manager.transaction()",
    write: ({ attempt, label }) =>
      attempt.manager.transaction((manager) => manager.save(LedgerEntry, { label, note: 'a' })),
    leaves: ['a'],
  },
  {
    name: 'a nested transaction whose failure is caught: only its rows go',
    write: async ({ dataSource, ledger, label }) => {
      await ledger.save({ label, note: 'before' });
      await expect(
        dataSource.transaction(async (manager) => {
          await manager.save(LedgerEntry, { label, note: 'inside' });
          await ledger.save({ label, note: 'inside, by repository' });
          throw new Error('inner');
        }),
      ).rejects.toThrow('inner');
      await ledger.save({ label, note: 'after' });
    },
    leaves: ['before', 'after'],
  },
  {
    name: 'a nested transaction whose statement fails: only its rows go, and the attempt goes on',
    write: async ({ dataSource, ledger, label }) => {
      await ledger.save({ label, note: 'before' });
      await expect(
        dataSource.transaction(async (manager) => {
          await manager.save(LedgerEntry, { label, note: 'inside' });
          await manager.query('SELECT 1 / 0');
        }),
      ).rejects.toThrow('division by zero');
      await ledger.save({ label, note: 'after' });
    },
    leaves: ['before', 'after'],
  },
  {
    name: 'transactions nested in nested ones: the innermost fails, the middle one stays',
    write: async ({ dataSource, ledger, label }) => {
      await dataSource.transaction(async (outer) => {
        await outer.save(LedgerEntry, { label, note: 'outer' });
        const inner = outer.transaction(async (manager) => {
          await manager.save(LedgerEntry, { label, note: 'inner' });
          throw new Error('inner');
        });
        await expect(inner).rejects.toThrow('inner');
        await dataSource.transaction((manager) => manager.save(LedgerEntry, { label, note: 'second inner' }));
        await ledger.save({ label, note: 'outer, by repository' });
      });
    },
    leaves: ['outer', 'second inner', 'outer, by repository'],
  },
  {
    name: 'transactions nested in nested ones: the middle one fails and takes the innermost along',
    write: async ({ dataSource, ledger, label }) => {
      await ledger.save({ label, note: 'root' });
      const outer = dataSource.transaction(async () => {
        await dataSource.transaction((manager) => manager.save(LedgerEntry, { label, note: 'inner' }));
        expect(await ledger.countBy({ label })).toBe(2);
        throw new Error('outer');
      });
      await expect(outer).rejects.toThrow('outer');
    },
    leaves: ['root'],
  },
  {
    name: 'Promise.all of saves',
    write: ({ ledger, label }) =>
      Promise.all(Array.from({ length: 5 }, (_, n) => ledger.save({ label, note: String(n) }))),
    leaves: ['0', '1', '2', '3', '4'],
  },
  {
    name: 'Promise.all of nested transactions',
    write: ({ dataSource, ledger, label }) =>
      Promise.all(
        ['a', 'b', 'c'].map((note) =>
          dataSource.transaction(async (manager) => {
            await manager.save(LedgerEntry, { label, note });
            await ledger.save({ label, note: `${note}, by repository` });
          }),
        ),
      ),
    leaves: ['a', 'a, by repository', 'b', 'b, by repository', 'c', 'c, by repository'],
  },
  {
    name: 'Promise.allSettled of nested transactions, one of which fails: only its rows go',
    write: async ({ dataSource, ledger, label }) => {
      const results = await Promise.allSettled([
        ...['a', 'b', 'c'].map((note) =>
          dataSource.transaction(async (manager) => {
            await manager.save(LedgerEntry, { label, note });
            await ledger.save({ label, note: `${note}, by repository` });
            if (note === 'b') throw new Error('b');
          }),
        ),
        ledger.save({ label, note: 'beside' }),
      ]);
      expect(results.map(({ status }) => status)).toEqual([
        'fulfilled',
        'rejected',
        'fulfilled',
        'fulfilled',
      ]);
    },
    leaves: ['a', 'a, by repository', 'c', 'c, by repository', 'beside'],
  },
  {
    name: 'nested transactions in parallel inside a nested one',
    write: ({ dataSource, label }) =>
      dataSource.transaction(async (outer) => {
        const results = await Promise.allSettled([
          outer.transaction((manager) => manager.save(LedgerEntry, { label, note: 'a' })),
          outer.transaction(async (manager) => {
            await manager.save(LedgerEntry, { label, note: 'b' });
            throw new Error('b');
          }),
          dataSource.transaction((manager) => manager.save(LedgerEntry, { label, note: 'c' })),
        ]);
        expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
      }),
    leaves: ['a', 'c'],
  },
  {
    name: 'an explicit query runner that commits, with a repository used meanwhile',
    write: async ({ dataSource, ledger, label }) => {
      const runner = dataSource.createQueryRunner();
      await runner.connect();
      await runner.startTransaction();
      await runner.manager.save(LedgerEntry, { label, note: 'runner' });
      await ledger.save({ label, note: 'repository' });
      await runner.query(`INSERT INTO ledger (label, note) VALUES ($1, 'raw')`, [label]);
      await runner.commitTransaction();
      await runner.release();
      await ledger.save({ label, note: 'after' });
    },
    leaves: ['runner', 'repository', 'raw', 'after'],
  },
  {
    name: 'an explicit query runner that rolls back, as its catch block says',
    write: async ({ dataSource, ledger, label }) => {
      await ledger.save({ label, note: 'before' });
      const runner = dataSource.createQueryRunner();
      await runner.startTransaction();
      try {
        await runner.manager.save(LedgerEntry, { label, note: 'runner' });
        await runner.query('SELECT 1 / 0');
        await runner.commitTransaction();
      } catch {
        await runner.rollbackTransaction();
      } finally {
        await runner.release();
      }
      await ledger.save({ label, note: 'after' });
    },
    leaves: ['before', 'after'],
  },
  {
    name: 'an explicit query runner without a transaction of its own',
    write: async ({ dataSource, label }) => {
      const runner = dataSource.createQueryRunner();
      await runner.manager.save(LedgerEntry, { label, note: 'a' });
      await runner.release();
      await expect(runner.query('SELECT 1')).rejects.toThrow('already released');
      const reader = dataSource.createQueryRunner('slave');
      expect(await reader.manager.countBy(LedgerEntry, { label })).toBe(1);
      await reader.release();
    },
    leaves: ['a'],
  },
];

describe.each(SETUPS)(
  'joining on $platform with a pool of 1, pipeline: $pipeline',
  ({ platform, pipeline }) => {
    let app: StagedApp;

    beforeAll(async () => {
      app = await openStage({
        platform,
        pipeline,
        poolSize: 1,
        controllers: [scripted('idempotent', Idempotent()), scripted('plain')],
      });
    });
    afterEach(() => app.quiet());
    afterAll(() => app.close());

    it.each(WAYS)('commits as one: $name', async ({ write, leaves }) => {
      const label = randomUUID();
      app.stage.play(label, async (scene) => {
        await write(scene);
        await scene.journal.save({ label });
        return { done: true };
      });
      const first = await app.post(`idempotent/${label}`, { key: label });
      const replay = await app.post(`idempotent/${label}`, { key: label });
      expect((await app.notes(label)).toSorted()).toEqual([...leaves].toSorted());
      expect(await app.rows('SELECT 1 FROM journal WHERE label = $1', [label])).toHaveLength(1);
      expect(app.stage.runs(label)).toBe(1);
      expect([first.status, replay.status]).toEqual([201, 200]);
      expect(replay.headers['idempotent-replayed']).toBe('true');
    });

    it.each(WAYS)('rolls back as one: $name', async ({ write, leaves }) => {
      const label = randomUUID();
      app.stage.play(label, async (scene) => {
        await scene.journal.save({ label });
        await write(scene);
        if (scene.run === 1) throw new Error('at the end');
        return { done: true };
      });
      const failed = await app.post(`idempotent/${label}`, { key: label });
      expect(await app.effects(label)).toBe(0);
      expect(await app.rows('SELECT 1 FROM journal WHERE label = $1', [label])).toHaveLength(0);
      expect(failed.status).toBe(500);
      expect((await app.record(label)).last_error).toBe('Error: at the end');

      const retried = await app.post(`idempotent/${label}`, { key: label });
      expect((await app.notes(label)).toSorted()).toEqual([...leaves].toSorted());
      expect(await app.rows('SELECT 1 FROM journal WHERE label = $1', [label])).toHaveLength(1);
      expect(retried.status).toBe(201);
    });

    it('gives the handler its key, scope and number', async () => {
      const label = randomUUID();
      app.stage.play(label, ({ run, attempt: { key, scope, number } }) => {
        if (run === 1) throw new Error('first');
        return { key, scope, number };
      });
      await app.post(`idempotent/${label}`, { key: label });
      const answer = await app.post(`idempotent/${label}`, { key: label });
      expect(answer.json()).toEqual({ key: label, scope: '', number: 2 });
    });

    it('shows nothing of the handler to others before it has committed', async () => {
      const label = randomUUID();
      const [entered, gate] = [deferred(), deferred()];
      app.stage.play(label, async ({ write }) => {
        await write();
        entered.resolve();
        await gate.promise;
      });
      const answer = app.post(`idempotent/${label}`, { key: label });
      await entered.promise;
      expect(await app.effects(label)).toBe(0);
      gate.resolve();
      expect((await answer).status).toBe(201);
      expect(await app.effects(label)).toBe(1);
    });

    it('lets a write that outlives its attempt fail loudly and write nothing', async () => {
      const label = randomUUID();
      const gate = deferred();
      const late: Promise<unknown>[] = [];
      app.stage.play(label, async ({ write, ledger, manager, attempt, dataSource }) => {
        await write('in time');
        const runner = dataSource.createQueryRunner();
        const insert = `INSERT INTO ledger (label, note) VALUES ('${label}', 'late')`;
        const attempts: (() => Promise<unknown>)[] = [
          () => write('late'),
          () => ledger.createQueryBuilder().insert().values({ label, note: 'late' }).execute(),
          () => manager.save(LedgerEntry, { label, note: 'late' }),
          () => attempt.manager.save(LedgerEntry, { label, note: 'late' }),
          () => attempt.manager.query(insert),
          () => dataSource.query(insert),
          () => dataSource.transaction((inner) => inner.save(LedgerEntry, { label, note: 'late' })),
          () => runner.query(insert),
          () => runner.startTransaction(),
          async () => dataSource.createQueryRunner().query(insert),
        ];
        late.push(...attempts.map((issue) => gate.promise.then(issue)));
        return { done: true };
      });
      const answer = await app.post(`idempotent/${label}`, { key: label });
      gate.resolve();
      const results = await Promise.allSettled(late);
      expect(await app.notes(label)).toEqual(['in time']);
      expect(answer.status).toBe(201);
      for (const result of results) {
        expect(result).toMatchObject({
          status: 'rejected',
          reason: expect.any(AttemptSettledError) as unknown,
        });
      }
      expect(results).toHaveLength(10);
    });

    it('rolls back when the handler returns while a statement is still running', async () => {
      const label = randomUUID();
      let forgotten: Promise<unknown> = Promise.resolve();
      app.stage.play(label, async ({ write, dataSource, run }) => {
        await write('awaited');
        if (run === 1) {
          forgotten = dataSource.query(
            `WITH w AS (INSERT INTO ledger (label, note) VALUES ($1, 'forgotten'))
          SELECT pg_sleep(0.05)`,
            [label],
          );
          forgotten.catch(() => undefined);
        }
        return { done: true };
      });
      const failed = await app.post(`idempotent/${label}`, { key: label });
      await Promise.allSettled([forgotten]);
      expect(await app.effects(label)).toBe(0);
      expect(failed.status).toBe(500);
      expect((await app.record(label)).last_error).toContain('UnfinishedWorkError');

      const retried = await app.post(`idempotent/${label}`, { key: label });
      expect(await app.notes(label)).toEqual(['awaited']);
      expect(retried.status).toBe(201);
    });

    it('does not send a statement that still waits for a nested transaction when the handler returns', async () => {
      const label = randomUUID();
      const ending = deferred();
      const waiting = deferred<unknown>();
      app.stage.play(label, async ({ dataSource, ledger }) => {
        const nested = dataSource.transaction(async (manager) => {
          await manager.query('SELECT 1');
          // The savepoint's RELEASE is on its way when the handler returns; its answer wakes the insert.
          setImmediate(ending.resolve);
        });
        nested.catch(() => undefined);
        void ledger.insert({ label, note: 'waited' }).then(waiting.resolve, waiting.resolve);
        await ending.promise;
      });
      const answer = await app.post(`idempotent/${label}`, { key: label });
      expect(await waiting.promise).toBeInstanceOf(AttemptSettledError);
      expect(await app.effects(label)).toBe(0);
      expect(answer.status).toBe(500);
    });

    it('rolls back when the handler returns while a nested transaction is still open', async () => {
      const label = randomUUID();
      const gate = deferred();
      let forgotten: Promise<unknown> = Promise.resolve();
      app.stage.play(label, async ({ write, dataSource, run }) => {
        await write('awaited');
        if (run === 1) {
          forgotten = dataSource.transaction(async (manager) => {
            await manager.save(LedgerEntry, { label, note: 'forgotten' });
            await gate.promise;
          });
          forgotten.catch(() => undefined);
        }
        return { done: true };
      });
      const failed = await app.post(`idempotent/${label}`, { key: label });
      gate.resolve();
      await expect(forgotten).rejects.toThrow();
      expect(await app.effects(label)).toBe(0);
      expect(failed.status).toBe(500);
      expect((await app.record(label)).last_error).toContain('UnfinishedWorkError');
      expect((await app.post(`idempotent/${label}`, { key: label })).status).toBe(201);
      expect(await app.notes(label)).toEqual(['awaited']);
    });

    it.each([
      'COMMIT',
      'ROLLBACK',
      'BEGIN',
      'END',
      'ABORT',
      'commit',
      '  /* really */ COMMIT AND CHAIN',
      '-- now\nROLLBACK',
      'START TRANSACTION',
      `PREPARE TRANSACTION 'x'`,
      ';COMMIT',
      'SELECT 1; COMMIT',
      'SELECT 1; /* then */ COMMIT; SELECT 2',
    ])('refuses a raw %j', async (statement) => {
      const label = randomUUID();
      app.stage.play(label, async ({ write, dataSource, run }) => {
        await write();
        if (run === 1) await dataSource.query(statement);
        return { done: true };
      });
      const refused = await app.post(`idempotent/${label}`, { key: label });
      expect(await app.effects(label)).toBe(0);
      expect(refused.status).toBe(500);
      expect((await app.record(label)).last_error).toContain('TransactionControlError');
      expect((await app.post(`idempotent/${label}`, { key: label })).status).toBe(201);
      expect(await app.effects(label)).toBe(1);
    });

    it('leaves statements alone that only look like transaction control', async () => {
      const label = randomUUID();
      app.stage.play(label, async ({ write, dataSource }) => {
        await dataSource.query('SAVEPOINT mine');
        await write('undone');
        await dataSource.query('ROLLBACK TO SAVEPOINT mine');
        await dataSource.query('RELEASE SAVEPOINT mine');
        await dataSource.query(`INSERT INTO ledger (label, note) VALUES ('${label}', 'a; COMMIT; "b')`);
        await dataSource.query(`DO $$ BEGIN PERFORM 1; END $$`);
        await dataSource.query(`SELECT 1 AS "commit" /* ; ROLLBACK */ -- ; COMMIT`);
      });
      const answer = await app.post(`idempotent/${label}`, { key: label });
      expect(await app.notes(label)).toEqual(['a; COMMIT; "b']);
      expect(answer.status).toBe(201);
    });

    it('refuses a rollback by query runner that would undo what a repository wrote beside it', async () => {
      const label = randomUUID();
      app.stage.play(label, async ({ write, dataSource, run }) => {
        if (run === 1) {
          const runner = dataSource.createQueryRunner();
          await runner.startTransaction();
          await write('beside');
          await runner.rollbackTransaction();
          await runner.release();
        }
        await write('after');
      });
      const failed = await app.post(`idempotent/${label}`, { key: label });
      expect(await app.effects(label)).toBe(0);
      expect(failed.status).toBe(500);
      expect((await app.record(label)).last_error).toContain('InterleavedTransactionError');
    });

    it('leaves undecorated routes as they are', async () => {
      const label = randomUUID();
      app.stage.play(label, async ({ write, ledger, attempt, dataSource }) => {
        await write('committed at once');
        const runner = dataSource.createQueryRunner();
        await runner.query('BEGIN');
        await runner.query('INSERT INTO ledger (label, note) VALUES ($1, $2)', [label, 'rolled back']);
        await runner.query('ROLLBACK');
        await runner.release();
        await ledger.findBy({ label });
        throw new Error(`no attempt: ${String(attempt === undefined)}`);
      });
      const answer = await app.post(`plain/${label}`, { key: label });
      expect(await app.notes(label)).toEqual(['committed at once']);
      expect(await app.records(label)).toEqual([]);
      expect(answer.status).toBe(500);
      expect(answer.headers['idempotent-replayed']).toBeUndefined();
    });

    it('carries no attempt over to the next request on the same connection', async () => {
      const label = randomUUID();
      const seen: boolean[] = [];
      app.stage.play(label, async ({ write, attempt }) => {
        seen.push(attempt !== undefined);
        await write();
        return { done: true };
      });
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
      const statuses: number[] = [];
      try {
        for (const path of ['idempotent', 'plain', 'idempotent', 'plain']) {
          const headers = { 'idempotency-key': randomUUID() };
          statuses.push((await send(`${app.url}/${path}/${label}`, { headers, agent, body: {} })).status);
        }
      } finally {
        agent.destroy();
      }
      expect(await app.effects(label)).toBe(4);
      expect(seen).toEqual([true, false, true, false]);
      expect(statuses).toEqual([201, 201, 201, 201]);
    });
  },
);

describe.each(SETUPS)(
  'joining on $platform with a larger pool, pipeline: $pipeline',
  ({ platform, pipeline }) => {
    let app: StagedApp;
    let other: DataSource;

    beforeAll(async () => {
      app = await openStage({
        platform,
        pipeline,
        poolSize: 8,
        controllers: [scripted('idempotent', Idempotent()), scripted('plain')],
      });
      other = await new DataSource({
        type: 'postgres',
        url: app.databaseUrl,
        entities: [LedgerEntry, JournalEntry],
        poolSize: 2,
      }).initialize();
    });
    afterEach(() => app.quiet());
    afterAll(async () => {
      await other.destroy();
      await app.close();
    });

    it('keeps what outsideAttempt() wrote when the attempt is rolled back', async () => {
      const label = randomUUID();
      app.stage.play(label, async ({ write, attempt, dataSource }) => {
        await write('inside');
        await outsideAttempt(() => write('outside'));
        await outsideAttempt(() =>
          dataSource.transaction((manager) => manager.save(LedgerEntry, { label, note: 'outside, nested' })),
        );
        await attempt.manager.save(LedgerEntry, { label, note: 'inside, after' });
        throw new Error('at the end');
      });
      const answer = await app.post(`idempotent/${label}`, { key: label });
      expect(await app.notes(label)).toEqual(['outside', 'outside, nested']);
      expect(answer.status).toBe(500);
    });

    it('lets work of outsideAttempt() outlive the attempt', async () => {
      const label = randomUUID();
      const gate = deferred();
      let background: Promise<unknown> = Promise.resolve();
      app.stage.play(label, ({ write }) => {
        background = outsideAttempt(async () => {
          await gate.promise;
          await write('later');
        });
      });
      expect((await app.post(`idempotent/${label}`, { key: label })).status).toBe(201);
      gate.resolve();
      await background;
      expect(await app.notes(label)).toEqual(['later']);
    });

    it('does not join a second data source', async () => {
      const label = randomUUID();
      app.stage.play(label, async ({ write }) => {
        await write('joined');
        await other.getRepository(LedgerEntry).save({ label, note: 'of its own' });
        await other.transaction((manager) => manager.save(LedgerEntry, { label, note: 'of its own, too' }));
        throw new Error('at the end');
      });
      const answer = await app.post(`idempotent/${label}`, { key: label });
      expect(await app.notes(label)).toEqual(['of its own', 'of its own, too']);
      expect(answer.status).toBe(500);
    });

    it('keeps concurrent requests apart: each fails or commits with its own rows only', async () => {
      const labels = Array.from({ length: 24 }, () => randomUUID());
      const backends = new Map<string, Set<string>>();
      const play = (label: string, index: number): void =>
        app.stage.play(label, async ({ write, dataSource, attempt }) => {
          const pids = new Set<string>();
          backends.set(label, pids);
          for (let n = 0; n < 5; n++) {
            await write(String(n));
            const [row] = await dataSource.query<{ xid: string }[]>(
              'SELECT pg_backend_pid() || $1 || pg_current_xact_id()::text AS xid',
              ['/'],
            );
            pids.add(row?.xid ?? '');
          }
          if (attempt && attempt.key !== label) throw new Error('the attempt of another request');
          if (index % 3 === 0) throw new Error('at the end');
        });
      labels.forEach(play);
      const path = (index: number): string => (index % 2 === 0 ? 'idempotent' : 'plain');
      const answers = await Promise.all(
        labels.map((label, index) => app.post(`${path(index)}/${label}`, { key: label })),
      );
      for (const [index, label] of labels.entries()) {
        const fails = index % 3 === 0;
        const joined = path(index) === 'idempotent';
        expect(await app.effects(label)).toBe(joined && fails ? 0 : 5);
        expect(answers[index]?.status).toBe(fails ? 500 : 201);
        // One transaction for all of an attempt; without one, each statement has its own.
        expect(backends.get(label)?.size).toBe(joined ? 1 : 5);
      }
    });

    it('leaves an undecorated route alone that is served while an attempt runs', async () => {
      const [held, free] = [randomUUID(), randomUUID()];
      const [entered, gate] = [deferred(), deferred()];
      app.stage.play(held, async ({ write }) => {
        await write();
        entered.resolve();
        await gate.promise;
        throw new Error('at the end');
      });
      app.stage.play(free, ({ write }) => write());
      const answer = app.post(`idempotent/${held}`, { key: held });
      await entered.promise;
      expect((await app.post(`plain/${free}`)).status).toBe(201);
      expect(await app.effects(free)).toBe(1);
      gate.resolve();
      expect((await answer).status).toBe(500);
      expect([await app.effects(held), await app.effects(free)]).toEqual([0, 1]);
    });

    it('uses one connection for an attempt, whatever the handler does in parallel', async () => {
      const label = randomUUID();
      const { master: pool } = app.dataSource.driver as unknown as { master: Pool };
      let busy = 0;
      app.stage.play(label, async ({ ledger, dataSource }) => {
        await Promise.all([
          ...Array.from({ length: 10 }, (_, n) => ledger.save({ label, note: String(n) })),
          dataSource.transaction((manager) => manager.save(LedgerEntry, { label, note: 'nested' })),
          until('the statements running', () => {
            busy = Math.max(busy, pool.totalCount - pool.idleCount);
            return busy > 0;
          }),
        ]);
      });
      expect((await app.post(`idempotent/${label}`, { key: label })).status).toBe(201);
      expect(await app.effects(label)).toBe(11);
      expect(busy).toBe(1);
    });
  },
);
