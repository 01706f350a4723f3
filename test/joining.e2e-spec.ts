import { randomUUID } from 'node:crypto';
import http from 'node:http';
import { AttemptSettledError, Idempotent } from 'nestjs-pg-idempotency';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { SETUPS } from './support/app.js';
import { send } from './support/http.js';
import { LedgerEntry, openStage, scripted, type StagedApp } from './support/stage.js';
import { deferred } from './support/until.js';
import { WAYS } from './support/ways-to-write.js';

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
