import { randomUUID } from 'node:crypto';
import { Controller, Param, Post } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { type Attempt, CurrentAttempt, Idempotent } from 'nestjs-pg-idempotency';
import { DataSource } from 'typeorm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startApp, type TestApp } from './support/app.js';
import { type Answer, send } from './support/http.js';
import { type PostgresPair, startPair } from './support/postgres-pair.js';
import { describeWith } from './support/servers.js';
import { deferred, until } from './support/until.js';

type Route = 'transaction' | 'step' | 'phase';

/** What a charge was asked for outside the database. */
const asked: { key: string; downstreamKey: string }[] = [];
/** Called at the places of the same name in a handler of lease mode. */
const at: { step?: () => void; phase?: () => void; outcome?: () => void } = {};

@Controller('charges')
class ChargesController {
  constructor(@InjectDataSource() private readonly dataSource: DataSource) {}

  @Post('transaction/:key')
  @Idempotent()
  async charge(@Param('key') key: string): Promise<{ charged: string }> {
    await this.dataSource.query('INSERT INTO charges (key) VALUES ($1)', [key]);
    return { charged: key };
  }

  @Post('step/:key')
  @Idempotent({ mode: 'lease', leaseTtl: '1s' })
  async chargeOutside(
    @Param('key') key: string,
    @CurrentAttempt() attempt: Attempt,
  ): Promise<{ charged: string }> {
    await attempt.step('charge', () => {
      at.step?.();
      asked.push({ key, downstreamKey: attempt.downstreamKey('charge') });
    });
    at.outcome?.();
    return { charged: key };
  }

  @Post('phase/:key')
  @Idempotent({ mode: 'lease', leaseTtl: '1s' })
  async chargeInPhase(
    @Param('key') key: string,
    @CurrentAttempt() attempt: Attempt,
  ): Promise<{ charged: string }> {
    await attempt.phase('charge', async () => {
      at.phase?.();
      await this.dataSource.query('INSERT INTO charges (key) VALUES ($1)', [key]);
    });
    return { charged: key };
  }
}

const WAITING = `wait_event = 'SyncRep' AND datname = current_database()`;

describeWith(['postgresql-15'], 'a COMMIT that waits for the standby', () => {
  let pair: PostgresPair;

  beforeAll(async () => {
    pair = await startPair('synchronous');
    await pair.primary.rows('CREATE TABLE charges (key text)');
  });
  afterAll(() => pair.close());

  describe.each([
    { pipeline: true, ending: 'pg_cancel_backend' },
    { pipeline: false, ending: 'pg_terminate_backend' },
  ] as const)('with pipeline: $pipeline', ({ pipeline, ending }) => {
    let app: TestApp;
    let key: string;

    beforeEach(async () => {
      key = randomUUID();
      asked.length = 0;
      app = await startApp({
        databaseUrl: pair.url,
        pipeline,
        controllers: [ChargesController],
        idempotency: { acquireTimeout: '1s' },
      });
    });
    afterEach(async () => {
      pair.replication.release();
      await app.close();
      await pair.rebuildStandby();
    });

    const charge = (route: Route = 'transaction'): Promise<Answer> =>
      send(`${app.url}/charges/${route}/${key}`, { headers: { 'idempotency-key': key } });
    /** What comes before stands on both; resolves when the next commit of the handler's is the one that does not arrive. */
    const chargeHeldAt = async (place: keyof typeof at): Promise<{ first: Promise<Answer> }> => {
      const held = deferred();
      at[place] = () => {
        delete at[place];
        pair.replication.hold('to-client');
        held.resolve();
      };
      const first = charge(place === 'outcome' ? 'step' : place);
      await held.promise;
      return { first };
    };
    const insist = (route?: Route): Promise<Answer> =>
      until('it is answered for good', async () => {
        const answer = await charge(route);
        return answer.status !== 409 && answer.status !== 503 && answer;
      });
    const charges = (): Promise<unknown[]> => pair.primary.rows('SELECT FROM charges WHERE key = $1', [key]);
    const waits = (): Promise<unknown> =>
      until('a commit waits for the standby', async () => {
        const found = await pair.primary.rows(`SELECT FROM pg_stat_activity WHERE ${WAITING}`);
        return found.length > 0;
      });
    /** As an operator does, or a timeout of the server. */
    const endWaits = (): Promise<unknown> =>
      pair.primary.rows(`SELECT ${ending}(pid) FROM pg_stat_activity WHERE ${WAITING}`);
    const isReplay = (answer: Answer, first: string): void => {
      expect({ status: answer.status, text: answer.text }).toEqual({ status: 200, text: first });
    };

    it('has done nothing when the standby that takes over never got it: no success, and a retry runs', async () => {
      pair.replication.hold('to-client');
      const first = charge();
      await waits();
      await pair.failOver();

      expect((await first).status).toBe(503);
      expect(await charges()).toHaveLength(0);
      expect((await insist()).status).toBe(201);
      expect(await charges()).toHaveLength(1);
    });

    it('has its effect when the standby that takes over had got it: once, and a retry replays', async () => {
      pair.replication.hold('to-target');
      const first = charge();
      await waits();
      const [written] = await pair.primary.rows<{ lsn: string }>('SELECT pg_current_wal_flush_lsn() AS lsn');
      await until('the standby has it', async () => {
        const [row] = await pair.standby.rows<{ has: boolean }>(
          'SELECT pg_last_wal_receive_lsn() >= $1::pg_lsn AS has',
          [written?.lsn],
        );
        return row?.has;
      });
      await pair.failOver();

      expect(await charges()).toHaveLength(1);
      expect([201, 503]).toContain((await first).status);
      isReplay(await insist(), `{"charged":"${key}"}`);
      expect(await charges()).toHaveLength(1);
    });

    describe(`and is ended by ${ending}`, () => {
      it('is no success, nor is its replay, until the standby has it: what is lost was never acknowledged', async () => {
        pair.replication.hold('to-client');
        const first = charge();
        await waits();
        await endWaits();
        await until('it is visible', async () => (await charges()).length === 1);
        const meanwhile = await charge();
        const answer = await first;
        const replay = await charge();
        await pair.failOver();

        expect(await charges()).toHaveLength(0);
        expect([answer, meanwhile, replay].map(({ status }) => status)).toEqual([503, 503, 503]);
        expect(answer.json()).toMatchObject({ code: 'IDEMPOTENCY_OUTCOME_UNKNOWN' });
        expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
        expect((await insist()).status).toBe(201);
        expect(await charges()).toHaveLength(1);
      });

      it('is a success as soon as the standby has it', async () => {
        pair.replication.hold('to-client');
        const first = charge();
        await waits();
        await endWaits();
        await until('it is visible', async () => (await charges()).length === 1);
        pair.replication.release();
        const answer = await first;
        await pair.failOver();

        expect(await charges()).toHaveLength(1);
        expect({ status: answer.status, text: answer.text }).toEqual({
          status: 201,
          text: `{"charged":"${key}"}`,
        });
        isReplay(await insist(), answer.text);
      });

      it('is no claim in lease mode: nothing runs before the standby knows of it', async () => {
        pair.replication.hold('to-client');
        const first = charge('step');
        await waits();
        await endWaits();
        const answer = await first;

        expect(asked).toHaveLength(0);
        expect(answer.status).toBe(503);
        await pair.failOver();
        expect((await insist('step')).status).toBe(201);
        expect(asked).toHaveLength(1);
      });

      it('is written once more when it was that of a step: the charge is known wherever the answer is', async () => {
        const { first } = await chargeHeldAt('step');
        await waits();
        await endWaits();
        await until('it is tried again', async () => {
          await endWaits();
          const [row] = await pair.primary.rows<{ found: boolean }>(
            'SELECT EXISTS (SELECT FROM idempotency_steps) AS found',
          );
          return row?.found;
        });
        const early = await Promise.race([first, Promise.resolve('none yet')]);
        pair.replication.release();
        const answer = await first;
        await pair.failOver();

        expect(asked).toHaveLength(1);
        expect(early).toBe('none yet');
        expect(answer.status).toBe(201);
        isReplay(await insist('step'), answer.text);
        expect(asked).toHaveLength(1);
      });

      it('is no success when it was that of a phase, and a retry on the new primary does it', async () => {
        const { first } = await chargeHeldAt('phase');
        await waits();
        await endWaits();
        await until('it is visible', async () => (await charges()).length === 1);
        const answer = await first;
        await pair.failOver();

        expect(await charges()).toHaveLength(0);
        expect(answer.status).toBeGreaterThanOrEqual(500);
        expect((await insist('phase')).status).toBe(201);
        expect(await charges()).toHaveLength(1);
      });

      it('is written once more when it was that of the outcome in lease mode, on the new primary', async () => {
        const { first } = await chargeHeldAt('outcome');
        await waits();
        await endWaits();
        await until('it is visible', async () => {
          const found = await pair.primary.rows(
            `SELECT FROM idempotency_keys WHERE key = $1 AND status = 'completed'`,
            [key],
          );
          return found.length > 0;
        });
        const early = await Promise.race([first, Promise.resolve('none yet')]);
        await pair.failOver();

        expect(early).toBe('none yet');
        // The attempt lives: it writes its outcome again, and where its record is now it finds nothing written.
        const answer = await first;
        expect(answer.status).toBe(201);
        isReplay(await insist('step'), answer.text);
        expect(asked).toHaveLength(1);
      });
    });
  });
});

describeWith(['postgresql-15'], 'an address that leads to a standby', () => {
  let pair: PostgresPair;
  let app: TestApp;

  beforeAll(async () => {
    pair = await startPair('synchronous');
    await pair.primary.rows('CREATE TABLE charges (key text)');
    // A pool that would never let a connection go by itself, and is always busy enough to keep it.
    const extra = { idleTimeoutMillis: 0 };
    app = await startApp({ databaseUrl: pair.url, controllers: [ChargesController], extra, poolSize: 2 });
    await send(`${app.url}/charges/transaction/first`, { headers: { 'idempotency-key': 'first' } });
  });
  afterAll(async () => {
    await app.close();
    await pair.close();
  });

  it.each(['transaction', 'step', 'phase'] as const)(
    'is answered 503 and runs nothing, and follows the address when it moves on (%s)',
    async (route) => {
      const key = randomUUID();
      asked.length = 0;
      const charge = (): Promise<Answer> =>
        send(`${app.url}/charges/${route}/${key}`, { headers: { 'idempotency-key': key } });
      pair.moveAddress();
      const answers = await Promise.all(Array.from({ length: 4 }, charge));
      // Without cutting what is open: a name that is resolved anew cuts nothing either.
      pair.address.retarget(pair.primary.port);
      const rows = await pair.primary.rows('SELECT FROM charges WHERE key = $1', [key]);
      const records = await pair.primary.rows('SELECT FROM idempotency_keys WHERE key = $1', [key]);
      const next = await charge();

      expect({ rows, records }).toEqual({ rows: [], records: [] });
      expect(answers.map(({ status }) => status)).toEqual([503, 503, 503, 503]);
      expect(answers[0]?.json()).toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE' });
      expect(answers[0]?.headers['retry-after']).toBe('1');
      expect(next.status).toBe(201);
      expect(asked.length).toBe(route === 'step' ? 1 : 0);
    },
  );

  it('replays nothing either, also of what the process has finished itself', async () => {
    const key = randomUUID();
    const charge = (): Promise<Answer> =>
      send(`${app.url}/charges/transaction/${key}`, { headers: { 'idempotency-key': key } });
    const first = await charge();
    pair.moveAddress();
    const away = await charge();
    pair.address.retarget(pair.primary.port);
    const back = await charge();
    expect([first.status, away.status, back.status]).toEqual([201, 503, 200]);
  });

  it('is served as soon as that standby is promoted, without a restart', async () => {
    const key = randomUUID();
    const charge = (): Promise<Answer> =>
      send(`${app.url}/charges/transaction/${key}`, { headers: { 'idempotency-key': key } });
    await pair.killPrimary();
    pair.moveAddress();
    const before = await charge();
    await pair.promote();
    const after = await charge();

    expect(await pair.primary.rows('SELECT FROM charges WHERE key = $1', [key])).toHaveLength(1);
    expect([before.status, after.status]).toEqual([503, 201]);
  });
});
