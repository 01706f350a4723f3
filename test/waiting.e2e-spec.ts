import { randomUUID } from 'node:crypto';
import { Controller, Get, Injectable, Param, Post } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { Idempotent } from 'nestjs-pg-idempotency';
import { DataSource } from 'typeorm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startApp, type TestApp } from './support/app.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { type Answer, send, statuses } from './support/http.js';
import { type Deferred, deferred, until } from './support/until.js';

/** Gates that hold the handler of a key after its write, shared by all applications of this file. */
const gates = new Map<string, Deferred<'finish' | 'fail' | 'die'>>();
const runs = new Map<string, number>();

@Injectable()
class Ledger {
  constructor(@InjectDataSource() private readonly dataSource: DataSource) {}

  async write(key: string): Promise<{ key: string; run: number }> {
    const run = (runs.get(key) ?? 0) + 1;
    runs.set(key, run);
    await this.dataSource.query('INSERT INTO effects (key) VALUES ($1)', [key]);
    // Only the first run meets the gate: what takes over later goes through.
    if (run > 1) return { key, run };
    const how = await gates.get(key)?.promise;
    if (how === 'fail') throw new Error('the handler failed after its write');
    if (how === 'die') await this.dataSource.query('SELECT pg_terminate_backend(pg_backend_pid())');
    return { key, run };
  }
}

@Controller()
class EffectsController {
  constructor(
    private readonly ledger: Ledger,
    @InjectDataSource() private readonly dataSource: DataSource,
  ) {}

  @Post('wait/:key')
  @Idempotent({ onInFlight: 'wait', waitTimeout: '8s' })
  wait(@Param('key') key: string): Promise<unknown> {
    return this.ledger.write(key);
  }

  @Post('wait-briefly/:key')
  @Idempotent({ onInFlight: 'wait', waitTimeout: '200ms' })
  waitBriefly(@Param('key') key: string): Promise<unknown> {
    return this.ledger.write(key);
  }

  @Post('reject/:key')
  @Idempotent({ retryAfter: '2500ms' })
  reject(@Param('key') key: string): Promise<unknown> {
    return this.ledger.write(key);
  }

  @Get('bystander')
  async bystander(): Promise<unknown> {
    return this.dataSource.query('SELECT 1 AS alive');
  }
}

describe.each([{ pipeline: true }, { pipeline: false }])(
  'duplicates in flight (pipeline: $pipeline)',
  ({ pipeline }) => {
    let database: TestDatabase;
    let apps: TestApp[];
    let key: string;

    beforeAll(async () => {
      database = await createDatabase();
      await database.rows('CREATE TABLE effects (key text)');
      const options = {
        databaseUrl: database.url,
        pipeline,
        poolSize: 3,
        controllers: [EffectsController],
        providers: [Ledger],
        idempotency: { acquireTimeout: '2s' as const },
      };
      // Two applications share nothing but the database, as two processes do.
      apps = [await startApp(options), await startApp(options)];
    });

    afterAll(async () => {
      await Promise.all(apps.map((app) => app.close()));
      await database.drop();
    });

    beforeEach(() => {
      key = randomUUID();
      gates.set(key, deferred());
    });

    const post = (
      path: string,
      { from = 0, body = {} }: { from?: number; body?: unknown } = {},
    ): Promise<Answer> =>
      send(`${apps[from]?.url}/${path}/${key}`, { headers: { 'idempotency-key': key }, body });
    const handlerHolds = (): Promise<unknown> => until('the handler has written', () => runs.has(key));
    const open = (how: 'finish' | 'fail' | 'die'): void => gates.get(key)?.resolve(how);
    const effects = (): Promise<unknown[]> => database.rows('SELECT FROM effects WHERE key = $1', [key]);
    /** A connection of the other application queues at the row lock. */
    const waitsAtTheRow = (): Promise<unknown> =>
      until('a duplicate waits at the row', async () => {
        const rows = await database.rows(
          `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
        );
        return rows.length > 0;
      });

    it('answers 409 with Retry-After at once, and 422 to another payload', async () => {
      const first = post('reject');
      await handlerHolds();
      for (const from of [0, 1]) {
        const duplicate = await post('reject', { from });
        expect(duplicate.status).toBe(409);
        expect(duplicate.headers['retry-after']).toBe('3');
        expect((await post('reject', { from, body: { other: true } })).status).toBe(422);
      }
      open('finish');
      expect((await first).status).toBe(201);
      expect(await effects()).toHaveLength(1);
    });

    it('keeps an undecorated route answering while 100 duplicates meet one handler', async () => {
      const first = post('reject');
      await handlerHolds();
      const duplicates = Array.from({ length: 100 }, (_, index) => post('reject', { from: index % 2 }));
      const bystanders = await Promise.all(
        [0, 1].map((from) => send(`${apps[from]?.url}/bystander`, { method: 'GET' })),
      );
      expect(statuses(bystanders)).toEqual({ 200: 2 });
      expect(statuses(await Promise.all(duplicates))).toEqual({ 409: 100 });
      open('finish');
      expect((await first).status).toBe(201);
    });

    it('keeps an undecorated route answering while 100 duplicates wait', async () => {
      const first = post('wait');
      await handlerHolds();
      const duplicates = Array.from({ length: 100 }, (_, index) => post('wait', { from: index % 2 }));
      await waitsAtTheRow();
      const bystanders = await Promise.all(
        [0, 1].map((from) => send(`${apps[from]?.url}/bystander`, { method: 'GET' })),
      );
      expect(statuses(bystanders)).toEqual({ 200: 2 });
      const waiting = await database.rows(
        `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
      );
      // Duplicates in the owner's application need no connection, all others share one.
      expect(waiting).toHaveLength(1);
      open('finish');
      const answers = [await first, ...(await Promise.all(duplicates))];
      expect(await effects()).toHaveLength(1);
      expect(statuses(answers)).toEqual({ 201: 1, 200: 100 });
      expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
    });

    it('wakes a waiting duplicate with the commit, not later', async () => {
      const first = post('wait');
      await handlerHolds();
      const duplicate = post('wait', { from: 1 });
      await waitsAtTheRow();
      const openedAt = performance.now();
      open('finish');
      expect((await duplicate).status).toBe(200);
      expect(performance.now() - openedAt).toBeLessThan(500);
      expect((await first).status).toBe(201);
    });

    it('answers 409 when the wait is over, and runs nothing', async () => {
      const first = post('wait-briefly');
      await handlerHolds();
      const answers = await Promise.all([post('wait-briefly'), post('wait-briefly', { from: 1 })]);
      expect(statuses(answers)).toEqual({ 409: 2 });
      open('finish');
      expect((await first).status).toBe(201);
      expect(await effects()).toHaveLength(1);
    });

    it('runs one of the waiting duplicates when the first attempt fails', async () => {
      const first = post('wait');
      await handlerHolds();
      const duplicates = Array.from({ length: 10 }, (_, index) => post('wait', { from: index % 2 }));
      await waitsAtTheRow();
      open('fail');
      expect((await first).status).toBe(500);
      const answers = await Promise.all(duplicates);
      expect(await effects()).toHaveLength(1);
      expect(runs.get(key)).toBe(2);
      expect(statuses(answers)).toEqual({ 201: 1, 200: 9 });
      expect(new Set(answers.map(({ text }) => text))).toEqual(new Set([JSON.stringify({ key, run: 2 })]));
    });

    it('runs one of the waiting duplicates when the first attempt loses its connection', async () => {
      const first = post('wait');
      await handlerHolds();
      const duplicates = Array.from({ length: 10 }, () => post('wait', { from: 1 }));
      await waitsAtTheRow();
      open('die');
      expect((await first).status).toBe(503);
      const answers = await Promise.all(duplicates);
      expect(await effects()).toHaveLength(1);
      expect(statuses(answers)).toEqual({ 201: 1, 200: 9 });
    });

    it('answers 422 to another payload at once, without waiting', async () => {
      const first = post('wait');
      await handlerHolds();
      for (const from of [0, 1])
        expect((await post('wait', { from, body: { other: true } })).status).toBe(422);
      open('finish');
      expect((await first).status).toBe(201);
    });
  },
);
