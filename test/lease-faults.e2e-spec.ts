import { IdempotencyEvents, type IdempotencyEvent } from 'nestjs-pg-idempotency';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  lease,
  openStage,
  outline,
  problemCode,
  type Scene,
  scripted,
  type StagedApp,
} from './support/stage.js';
import { startProxy, type TcpProxy } from './support/tcp-proxy.js';

describe.each([{ pipeline: true }, { pipeline: false }])(
  'lease mode under faults (pipeline: $pipeline)',
  ({ pipeline }) => {
    let app: StagedApp;
    let proxy: TcpProxy;
    let events: IdempotencyEvent[];

    beforeAll(async () => {
      app = await openStage({
        pipeline,
        poolSize: 5,
        controllers: [
          scripted('lease', lease()),
          scripted('short', lease({ leaseTtl: 300 })),
          scripted('waiting', lease({ onInFlight: 'wait', waitTimeout: '20s' })),
        ],
        through: async (databaseUrl) => {
          const url = new URL(databaseUrl);
          proxy = await startProxy({ host: url.hostname, port: Number(url.port) });
          url.port = String(proxy.port);
          return url.href;
        },
      });
      app.app.get(IdempotencyEvents).events.subscribe((event) => events.push(event));
    });
    afterAll(async () => {
      await app.close();
      await proxy.close();
    });
    beforeEach(() => void (events = []));
    afterEach(() => app.quiet());

    const journal = async (label: string): Promise<string[]> =>
      (
        await app.rows<{ name: string }>(
          `SELECT s.name FROM idempotency_steps s JOIN idempotency_keys k USING (key_hash)
            WHERE k.key = $1 ORDER BY position`,
          [label],
        )
      ).map(({ name }) => name);
    const eventTypes = (): string[] => events.map(({ type }) => type);

    it('answers 201 when the answer to the completing statement was lost, and a retry replays it', async () => {
      const label = app.play(async ({ write }: Scene) => {
        await write();
        return 'done';
      });
      const met = proxy.loseAnswerTo('response_status = $6', 'UPDATE 1');
      const first = await app.postTo('lease', label);
      await met;
      const second = await app.postTo('lease', label);
      expect(await app.effects(label)).toBe(1);
      expect(await app.record(label)).toMatchObject({ status: 'completed', attempt: 1 });
      expect([outline(first), outline(second)]).toEqual([
        { status: 201, text: 'done' },
        { status: 200, text: 'done' },
      ]);
      expect(eventTypes()).not.toContain('lease-lost');
    });

    it('goes on behind a phase whose COMMIT was carried out and not answered', async () => {
      const label = app.play(async ({ attempt, write }: Scene) => {
        const value = await attempt.phase('reserve', async () => {
          await write('reserved');
          return 7;
        });
        return { value };
      });
      const met = proxy.faultNextCommit('swallow-answer');
      const first = await app.postTo('lease', label);
      await met;
      expect(await app.notes(label)).toEqual(['reserved']);
      expect(await journal(label)).toEqual(['reserve']);
      expect(outline(first)).toEqual({ status: 201, text: '{"value":7}' });
    });

    it('knows that a phase is not done whose COMMIT did not arrive, and does it again with the retry', async () => {
      const label = app.play(async ({ attempt, write, run }: Scene) => {
        await attempt.phase('reserve', () => write(`run ${run}`));
        return 'done';
      });
      const met = proxy.faultNextCommit('cut-before');
      const first = await app.postTo('lease', label);
      await met;
      const notes = await app.notes(label);
      const second = await app.postTo('lease', label);
      expect(notes).toEqual([]);
      expect(await app.notes(label)).toEqual(['run 2']);
      expect([first.status, second.status]).toEqual([500, 201]);
    });

    it('keeps a record whose phase was committed without an answer, and nobody could be asked', async () => {
      const label = app.play(async ({ attempt, write, run }: Scene) => {
        await attempt.phase('reserve', () => write('reserved'));
        return run;
      });
      const met = proxy.faultNextCommit('swallow-answer');
      const first = app.postTo('lease', label);
      await met;
      proxy.setDown(true);
      // Longer than the phase is asked after, and shorter than the end of the attempt is tried to be written.
      setTimeout(() => proxy.setDown(false), 6_000);
      const { status } = await first;
      const left = await app.record(label);
      const second = await app.postTo('lease', label);
      expect(await app.notes(label)).toEqual(['reserved']);
      expect(left).toMatchObject({
        status: 'pending',
        last_error: expect.stringMatching(/^PhaseOutcomeUnknownError: Whether the phase "reserve"/),
      });
      expect([status, outline(second)]).toEqual([500, { status: 201, text: '2' }]);
    });

    it('journals a step that was done while the database was away, and does not do it again', async () => {
      let charges = 0;
      const label = app.play(async ({ attempt }: Scene) => {
        const charge = await attempt.step('charge', () => {
          charges++;
          proxy.setDown(true);
          setTimeout(() => proxy.setDown(false), 300);
          return { charged: charges };
        });
        return charge;
      });
      const first = await app.postTo('lease', label);
      expect(charges).toBe(1);
      expect(await journal(label)).toEqual(['charge']);
      expect(outline(first)).toEqual({ status: 201, text: '{"charged":1}' });
    });

    it('journals a step once when the answer to its entry was lost', async () => {
      let charges = 0;
      const label = app.play(({ attempt }: Scene) => attempt.step('charge', () => ++charges));
      const met = proxy.loseAnswerTo('AS fenced FROM fenced', 'SELECT 1');
      const first = await app.postTo('lease', label);
      await met;
      expect(charges).toBe(1);
      expect(await journal(label)).toEqual(['charge']);
      expect(outline(first)).toEqual({ status: 201, text: '1' });
    });

    it('rolls a phase back whose backend is terminated, and runs it again with the retry', async () => {
      const label = app.play(async ({ attempt, write, run }: Scene) =>
        attempt.phase('reserve', async () => {
          await write(`run ${run}`);
          if (run === 1) {
            await app.rows(
              `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND state = 'idle in transaction'`,
            );
          }
          await write(`run ${run}, later`);
          return run;
        }),
      );
      const first = await app.postTo('lease', label);
      const second = await app.postTo('lease', label);
      expect(await app.notes(label)).toEqual(['run 2', 'run 2, later']);
      expect([first.status, outline(second)]).toEqual([500, { status: 201, text: '2' }]);
    });

    /** Another process takes the record over and, with an answer, completes it. */
    const takeOver = (label: string, answer?: string): Promise<unknown> =>
      app.rows(
        answer === undefined
          ? `UPDATE idempotency_keys SET attempt = attempt + 1, lease_until = clock_timestamp() + interval '1 minute'
              WHERE key = $1 AND $2::text IS NULL`
          : `UPDATE idempotency_keys SET attempt = attempt + 1, lease_until = NULL, status = 'completed',
                    response_status = 201, response_headers = '{"content-type":"text/plain"}', response_body = $2::bytea
              WHERE key = $1`,
        [label, answer ?? null],
      );

    it('answers from the record when another attempt has taken it and completed it, and changes nothing', async () => {
      let signal: AbortSignal | undefined;
      const label = app.play(async ({ attempt }: Scene) => {
        ({ signal } = attempt);
        await takeOver(label, 'the other one');
        return 'the late one';
      });
      const first = await app.postTo('lease', label);
      const record = await app.record(label);
      expect(record).toMatchObject({ status: 'completed', attempt: 2 });
      expect(record.response_body?.toString()).toBe('the other one');
      expect(outline(first)).toEqual({ status: 200, text: 'the other one' });
      expect(first.headers['idempotent-replayed']).toBe('true');
      expect(eventTypes()).toContain('lease-lost');
      expect(eventTypes()).not.toContain('completed');
      expect(signal?.aborted).toBe(true);
    });

    it('answers 409 when the other attempt is still running', async () => {
      const label = app.play(async () => {
        await takeOver(label);
        return 'the late one';
      });
      const first = await app.postTo('lease', label);
      expect(await app.record(label)).toMatchObject({ status: 'pending', attempt: 2 });
      expect(problemCode(first)).toBe('IDEMPOTENCY_KEY_IN_USE');
    });

    it('notices by its heartbeat that the lease is lost, and begins no step or phase any more', async () => {
      const done: string[] = [];
      const label = app.play(async ({ attempt, write }: Scene) => {
        await attempt.step('first', () => done.push('first'));
        await takeOver(label, 'the other one');
        await new Promise((resolve) => attempt.signal.addEventListener('abort', resolve));
        const errors: string[] = [];
        await attempt
          .step('second', () => done.push('second'))
          .catch((error: Error) => errors.push(error.name));
        await attempt.phase('third', () => write()).catch((error: Error) => errors.push(error.name));
        done.push(...errors);
        return 'the late one';
      });
      const first = await app.postTo('short', label);
      expect(await app.effects(label)).toBe(0);
      expect(done).toEqual(['first', 'LeaseLostError', 'LeaseLostError']);
      expect(outline(first)).toEqual({ status: 200, text: 'the other one' });
      expect(eventTypes().filter((type) => type === 'lease-lost')).toHaveLength(1);
    });

    it('does not journal the step that was running when the lease was lost, and rolls the phase back', async () => {
      const errors: string[] = [];
      const label = app.play(async ({ attempt, write }: Scene) => {
        await attempt
          .step('charge', () => takeOver(label, 'the other one'))
          .catch((error: Error) => errors.push(error.name));
        await attempt.phase('confirm', () => write()).catch((error: Error) => errors.push(error.name));
        return 'the late one';
      });
      const first = await app.postTo('lease', label);
      expect(await journal(label)).toEqual([]);
      expect(await app.effects(label)).toBe(0);
      expect(errors).toEqual(['LeaseLostError', 'LeaseLostError']);
      expect(outline(first)).toEqual({ status: 200, text: 'the other one' });
    });

    it('waits for an attempt of another process without holding a connection, and replays its answer', async () => {
      const label = app.play(() => 'the first one');
      await app.postTo('waiting', label);
      // The same record, as another process would hold it.
      await app.rows(
        `UPDATE idempotency_keys SET status = 'pending', response_status = NULL, response_body = NULL,
                lease_until = clock_timestamp() + interval '1 minute' WHERE key = $1`,
        [label],
      );
      let answered = 0;
      const waiting = Array.from({ length: 20 }, () =>
        app.postTo('waiting', label).finally(() => answered++),
      );
      await app.quiet();
      expect(answered).toBe(0);
      await takeOver(label, 'the other one');
      const answers = await Promise.all(waiting);
      expect(new Set(answers.map(({ status, text }) => `${status} ${text}`))).toEqual(
        new Set(['200 the other one']),
      );
      expect(app.stage.runs(label)).toBe(1);
    });
  },
);
