import { randomUUID } from 'node:crypto';
import { ConflictException } from '@nestjs/common';
import { Idempotent } from 'nestjs-pg-idempotency';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { SETUPS } from './support/app.js';
import type { Answer } from './support/http.js';
import { openStage, outline, problemCode, type Script, scripted, type StagedApp } from './support/stage.js';
import { deferred, until } from './support/until.js';

describe.each(SETUPS)('attempts on $platform, pipeline: $pipeline', (setup) => {
  let app: StagedApp;

  beforeAll(async () => {
    app = await openStage({
      ...setup,
      controllers: [
        scripted('idempotent', Idempotent()),
        scripted('plain'),
        scripted('short', Idempotent({ maxRuntime: '300ms' })),
        scripted('two-attempts', Idempotent({ maxAttempts: 2 })),
      ],
    });
    await app.rows(`CREATE TABLE locks (id int); INSERT INTO locks VALUES (1)`);
  });
  afterEach(() => app.quiet());
  afterAll(() => app.close());

  const play = (script: Script): string => app.play(script);
  const post = (path: string, label: string, headers: Record<string, string> = {}): Promise<Answer> =>
    app.postTo(path, label, headers);

  describe('conflicts with other transactions', () => {
    it.each(['40001', '40P01', '55P03'])('answers 503 to SQLSTATE %s', async (state) => {
      const label = play(async ({ write, run, dataSource }) => {
        await write();
        if (run === 1) {
          await dataSource.query(`DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '${state}'; END $$`);
        }
        return { run };
      });
      const failed = await post('idempotent', label);
      expect(await app.effects(label)).toBe(0);
      expect((await app.record(label)).status).toBe('error');
      expect([failed.status, problemCode(failed)]).toEqual([503, 'IDEMPOTENCY_TRANSACTION_CONFLICT']);
      expect(failed.headers['retry-after']).toBe('1');
      expect(failed.headers['content-type']).toContain('application/problem+json');
      expect(outline(await post('idempotent', label))).toEqual({ status: 201, text: '{"run":2}' });
      expect(await app.effects(label)).toBe(1);
    });

    it('answers 503 to a lock that somebody else holds (NOWAIT)', async () => {
      const label = play(async ({ write, dataSource }) => {
        await write();
        await dataSource.query('SELECT 1 FROM locks FOR UPDATE NOWAIT');
      });
      const runner = app.dataSource.createQueryRunner();
      await runner.startTransaction();
      await runner.query('SELECT 1 FROM locks FOR UPDATE');
      const failed = await post('idempotent', label);
      await runner.rollbackTransaction();
      await runner.release();
      expect(await app.effects(label)).toBe(0);
      expect([failed.status, problemCode(failed)]).toEqual([503, 'IDEMPOTENCY_TRANSACTION_CONFLICT']);
      expect((await post('idempotent', label)).status).toBe(201);
      expect(await app.effects(label)).toBe(1);
    });

    it('lets one of two deadlocked handlers through, and the other one when it is retried', async () => {
      const [a, b] = [randomUUID(), randomUUID()];
      await app.rows('INSERT INTO accounts VALUES ($1, 0), ($2, 0)', [a, b]);
      const arrived = { [a]: deferred(), [b]: deferred() };
      const transfer = (own: string, other: string): void =>
        app.stage.play(own, async ({ write, dataSource }) => {
          const raise = `UPDATE accounts SET balance = balance + 1 WHERE id = $1`;
          await write();
          await dataSource.query(raise, [own]);
          arrived[own]?.resolve();
          await arrived[other]?.promise;
          await dataSource.query(raise, [other]);
        });
      transfer(a, b);
      transfer(b, a);
      const labels = [a, b];
      const answers = await Promise.all(labels.map((label) => post('idempotent', label)));
      expect(await app.effects(a)).toBe(answers[0]?.status === 201 ? 1 : 0);
      expect(await app.effects(b)).toBe(answers[1]?.status === 201 ? 1 : 0);
      const statuses = answers.map(({ status }) => status);
      expect(statuses.toSorted((x, y) => x - y)).toEqual([201, 503]);
      const victim = statuses.indexOf(503);
      const lost = answers[victim];
      expect(lost && problemCode(lost)).toBe('IDEMPOTENCY_TRANSACTION_CONFLICT');
      expect(lost?.headers['retry-after']).toBe('1');

      const retried = await Promise.all(labels.map((label) => post('idempotent', label)));
      expect(retried.map(({ status }) => status)).toEqual(
        statuses.map((status) => (status === 503 ? 201 : 200)),
      );
      expect([await app.effects(a), await app.effects(b)]).toEqual([1, 1]);
      expect(await app.rows('SELECT balance FROM accounts WHERE id IN ($1, $2)', [a, b])).toEqual([
        { balance: 2 },
        { balance: 2 },
      ]);
    });
  });

  describe('attempts that die', () => {
    it('takes the transaction from a handler over maxRuntime and frees the key at once', async () => {
      const gate = deferred();
      let late: Promise<unknown> = Promise.resolve();
      const label = play(async ({ write, run, ledger }) => {
        await write(`run ${run}`);
        if (run > 1) return { run };
        late = gate.promise.then(() => ledger.save({ label, note: 'late' }));
        return late;
      });
      const overdue = await post('short', label);
      expect(await app.effects(label)).toBe(0);
      expect([overdue.status, problemCode(overdue)]).toEqual([503, 'IDEMPOTENCY_ATTEMPT_LOST']);
      expect(overdue.headers['retry-after']).toBe('1');

      const retried = await post('short', label);
      expect(await app.notes(label)).toEqual(['run 2']);
      expect(outline(retried)).toEqual({ status: 201, text: '{"run":2}' });

      gate.resolve();
      await expect(late).rejects.toThrow('after its attempt had settled');
      expect(await app.notes(label)).toEqual(['run 2']);
      expect(outline(await post('short', label))).toEqual({ status: 200, text: '{"run":2}' });
    });

    it('answers 503 over maxRuntime also when the handler is stuck in a statement', async () => {
      const label = play(async ({ write, run, dataSource }) => {
        await write(`run ${run}`);
        if (run === 1) await dataSource.query('SELECT pg_sleep(20)');
        return { run };
      });
      const overdue = await post('short', label);
      expect([overdue.status, problemCode(overdue)]).toEqual([503, 'IDEMPOTENCY_ATTEMPT_LOST']);
      const retried = await until('the key free', async () => {
        const answer = await post('short', label);
        return answer.status === 409 ? undefined : answer;
      });
      expect(await app.notes(label)).toEqual(['run 2']);
      expect(outline(retried)).toEqual({ status: 201, text: '{"run":2}' });
    });

    /** Ends the handler's own backend, as an administrator or a failover would. */
    const die: Script = async ({ write, attempt }) => {
      await write();
      await attempt.manager.query('SELECT pg_terminate_backend(pg_backend_pid())');
    };

    it('answers 503 to a terminated backend, has no effect, and runs again', async () => {
      const label = play((scene) => (scene.run === 1 ? die(scene) : scene.write()));
      const lost = await post('idempotent', label);
      expect(await app.effects(label)).toBe(0);
      expect([lost.status, problemCode(lost)]).toEqual([503, 'IDEMPOTENCY_ATTEMPT_LOST']);
      expect(lost.headers['retry-after']).toBe('1');
      expect((await post('idempotent', label)).status).toBe(201);
      expect(await app.effects(label)).toBe(1);
      expect((await app.record(label)).attempt).toBe(2);
    });

    it('gives the key back when the connections of the pool that come next are dead as well', async () => {
      const driver = app.dataSource.driver as unknown as {
        obtainMasterConnection(): Promise<[{ connection: { stream: { destroy(): void } } }, () => void]>;
      };
      const obtain = driver.obtainMasterConnection.bind(driver);
      let dead = 0;
      const label = play((scene) => {
        if (scene.run > 1) return scene.write();
        driver.obtainMasterConnection = async () => {
          const [client, release] = await obtain();
          if (++dead < 4) client.connection.stream.destroy();
          else driver.obtainMasterConnection = obtain;
          return [client, release];
        };
        return die(scene);
      });
      const lost = await post('idempotent', label);
      expect(await app.record(label)).toMatchObject({ status: 'error', attempt: 1 });
      expect(dead).toBe(4);
      expect([lost.status, problemCode(lost)]).toEqual([503, 'IDEMPOTENCY_ATTEMPT_LOST']);
      expect((await post('idempotent', label)).status).toBe(201);
      expect(await app.effects(label)).toBe(1);
    });

    /**
     * Lets the handler die while nobody can give its record back: as far as the record tells, its process died too.
     * A lock queued behind the attempt's own gets the row first.
     */
    const abandon = async (label: string): Promise<Answer> => {
      const [entered, gate] = [deferred(), deferred()];
      app.stage.play(label, async (scene) => {
        entered.resolve();
        await gate.promise;
        return die(scene);
      });
      const answer = post('two-attempts', label);
      await entered.promise;
      const runner = app.dataSource.createQueryRunner();
      await runner.startTransaction();
      const queued = runner.query('SELECT 1 FROM idempotency_keys WHERE key = $1 FOR SHARE', [label]);
      await until('the lock queued', async () => {
        const waiting = await app.rows(
          `SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`,
        );
        return waiting.length > 0;
      });
      gate.resolve();
      await queued;
      const answered = await answer;
      await runner.rollbackTransaction();
      await runner.release();
      return answered;
    };

    it('does not run again what died maxAttempts times in a row', async () => {
      const label = randomUUID();
      const lost = [await abandon(label), await abandon(label)];
      app.stage.play(label, ({ write }) => write());
      const refused = [await post('two-attempts', label)];
      // The one that is refused lets the row go after it is answered.
      await app.quiet();
      refused.push(await post('two-attempts', label));
      expect(await app.effects(label)).toBe(0);
      expect(app.stage.runs(label)).toBe(2);
      expect(lost.map(problemCode)).toEqual(['IDEMPOTENCY_ATTEMPT_LOST', 'IDEMPOTENCY_ATTEMPT_LOST']);
      for (const answer of refused) {
        expect([answer.status, problemCode(answer)]).toEqual([500, 'IDEMPOTENCY_ATTEMPTS_EXHAUSTED']);
        expect(answer.headers['retry-after']).toBeUndefined();
      }
    });

    it('does not count errors that the handler throws', async () => {
      const label = play(async ({ write, run }) => {
        await write();
        if (run <= 4) throw new Error(`run ${run}`);
      });
      const statuses: number[] = [];
      for (let n = 0; n < 5; n++) statuses.push((await post('two-attempts', label)).status);
      expect(statuses).toEqual([500, 500, 500, 500, 201]);
      expect(await app.effects(label)).toBe(1);
      expect((await app.record(label)).attempt).toBe(5);
    });

    it('counts only attempts that die in a row', async () => {
      const label = randomUUID();
      await abandon(label);
      app.stage.play(label, () => {
        throw new Error('thrown');
      });
      expect((await post('two-attempts', label)).status).toBe(500);
      await abandon(label);
      app.stage.play(label, ({ write }) => write());
      expect((await post('two-attempts', label)).status).toBe(201);
      expect(await app.effects(label)).toBe(1);
    });
  });

  describe('records', () => {
    const expire = (label: string): Promise<unknown> =>
      app.rows(
        `UPDATE idempotency_keys SET expires_at = clock_timestamp() - interval '1 second' WHERE key = $1`,
        [label],
      );

    it.each(['completed', 'pending', 'error'])(
      'never runs a %s record of an unknown format',
      async (status) => {
        const label = play(({ write }) => write());
        await post('idempotent', label);
        await app.rows(
          `UPDATE idempotency_keys SET format = 3, status = $2,
           response_status = CASE WHEN $2 = 'completed' THEN response_status END WHERE key = $1`,
          [label, status],
        );
        const refused = await post('idempotent', label);
        await expire(label);
        const expired = await post('idempotent', label);
        expect(await app.effects(label)).toBe(1);
        expect(app.stage.runs(label)).toBe(1);
        for (const answer of [refused, expired]) {
          expect([answer.status, problemCode(answer)]).toEqual([500, 'IDEMPOTENCY_RECORD_UNREADABLE']);
        }
      },
    );

    it('runs again what has expired, with a greater number and another payload', async () => {
      const label = play(async ({ write, attempt }) => {
        await write();
        return { number: attempt.number };
      });
      const send = (body: object): Promise<Answer> => app.post(`idempotent/${label}`, { key: label, body });
      await send({ amount: 1 });
      await expire(label);
      const again = await send({ amount: 1 });
      await expire(label);
      const other = await send({ amount: 2 });
      const replay = await send({ amount: 2 });
      const former = await send({ amount: 1 });
      expect(await app.effects(label)).toBe(3);
      expect([again, other].map(outline)).toEqual([
        { status: 201, text: '{"number":2}' },
        { status: 201, text: '{"number":3}' },
      ]);
      expect(outline(replay)).toEqual({ status: 200, text: '{"number":3}' });
      expect([former.status, problemCode(former)]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED']);
    });

    it('runs an expired stored error again', async () => {
      const label = play(async ({ write, run }) => {
        await write();
        if (run === 1) throw new ConflictException();
      });
      await post('idempotent', label);
      await expire(label);
      expect((await post('idempotent', label)).status).toBe(201);
      expect(await app.effects(label)).toBe(1);
    });
  });
});
