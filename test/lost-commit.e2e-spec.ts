import { randomUUID } from 'node:crypto';
import { Controller, Param, Post } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { Idempotent, IdempotencyEvents, type IdempotencyEvent } from 'nestjs-pg-idempotency';
import pg from 'pg';
import { DataSource } from 'typeorm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startApp, type TestApp } from './support/app.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { type Answer, send } from './support/http.js';
import { startProxy, type TcpProxy } from './support/tcp-proxy.js';

@Controller('charges')
class ChargesController {
  constructor(@InjectDataSource() private readonly dataSource: DataSource) {}

  @Post(':key')
  @Idempotent()
  async charge(@Param('key') key: string): Promise<{ charged: string }> {
    await this.dataSource.query('INSERT INTO charges (key) VALUES ($1)', [key]);
    return { charged: key };
  }
}

describe.each([{ pipeline: true }, { pipeline: false }])(
  'the answer to COMMIT is lost (pipeline: $pipeline)',
  ({ pipeline }) => {
    let database: TestDatabase;
    let proxy: TcpProxy;
    let app: TestApp;
    let events: IdempotencyEvent[];

    beforeAll(async () => {
      database = await createDatabase();
      await database.rows('CREATE TABLE charges (key text)');
    });
    afterAll(() => database.drop());

    beforeEach(async () => {
      const url = new URL(database.url);
      proxy = await startProxy({ host: url.hostname, port: Number(url.port) });
      url.port = String(proxy.port);
      app = await startApp({ databaseUrl: url.href, pipeline, controllers: [ChargesController] });
      events = [];
      app.app.get(IdempotencyEvents).events.subscribe((event) => events.push(event));
    });
    afterEach(async () => {
      await app.close();
      await proxy.close();
    });

    const charge = (key: string): Promise<Answer> =>
      send(`${app.url}/charges/${key}`, { headers: { 'idempotency-key': key } });
    const charges = (key: string): Promise<unknown[]> =>
      database.rows('SELECT FROM charges WHERE key = $1', [key]);
    const resolutions = (): unknown[] =>
      events.flatMap((event) => (event.type === 'unknown' ? [event.resolution] : []));

    it('adopts the recorded outcome when PostgreSQL had committed: 201, and a retry replays', async () => {
      const key = randomUUID();
      const met = proxy.faultNextCommit('swallow-answer');
      const first = await charge(key);
      await met;

      expect(await charges(key)).toHaveLength(1);
      expect(resolutions()).toEqual(['committed']);
      expect({ status: first.status, text: first.text }).toEqual({
        status: 201,
        text: `{"charged":"${key}"}`,
      });
      const retry = await charge(key);
      expect({ status: retry.status, text: retry.text }).toEqual({ status: 200, text: first.text });
      expect(await charges(key)).toHaveLength(1);
    });

    it('answers 503 when PostgreSQL had not committed: no effect, and a retry runs', async () => {
      const key = randomUUID();
      const met = proxy.faultNextCommit('cut-before');
      const first = await charge(key);
      await met;

      expect(await charges(key)).toHaveLength(0);
      expect(first.status).toBe(503);
      expect(first.json()).toMatchObject({ code: 'IDEMPOTENCY_ATTEMPT_LOST' });
      expect(first.headers['retry-after']).toBe('1');
      const retry = await charge(key);
      expect(await charges(key)).toHaveLength(1);
      expect(retry.status).toBe(201);
    });

    it('answers 503 outcome unknown while PostgreSQL cannot be asked, and the retry finds out', async () => {
      const key = randomUUID();
      const met = proxy.faultNextCommit('swallow-answer');
      void met.then(() => proxy.setDown(true));
      const first = await charge(key);

      expect(first.status).toBe(503);
      expect(first.json()).toMatchObject({ code: 'IDEMPOTENCY_OUTCOME_UNKNOWN' });
      expect(first.headers['retry-after']).toBe('1');
      expect(resolutions()).toEqual(['unresolved']);
      proxy.setDown(false);
      const retry = await charge(key);
      expect(await charges(key)).toHaveLength(1);
      expect({ status: retry.status, text: retry.text }).toEqual({
        status: 200,
        text: `{"charged":"${key}"}`,
      });
    });

    it('answers a duplicate from the record while it asks what became of the COMMIT', async () => {
      const key = randomUUID();
      const holder = new pg.Client({ connectionString: database.directUrl });
      await holder.connect();
      try {
        const met = proxy.faultNextCommit('swallow-answer');
        const first = charge(key);
        await met;
        // Whoever asks what became of it waits for the row.
        proxy.setDown(true);
        await holder.query('BEGIN');
        await holder.query('SELECT FROM idempotency_keys WHERE key = $1 FOR UPDATE', [key]);
        proxy.setDown(false);
        const duplicate = await charge(key);
        expect({ status: duplicate.status, text: duplicate.text }).toEqual({
          status: 200,
          text: `{"charged":"${key}"}`,
        });
        expect(resolutions()).toEqual([]);
        await holder.query('COMMIT');
        expect((await first).status).toBe(201);
        expect(await charges(key)).toHaveLength(1);
      } finally {
        await holder.end();
      }
    });

    it.each([
      ['cut-before', 'DELETE FROM idempotency_keys WHERE key = $1', 0],
      ['swallow-answer', 'UPDATE idempotency_keys SET expires_at = now() WHERE key = $1', 1],
    ] as const)('takes no answer from another life of the key (%s, %s)', async (fault, end, before) => {
      const key = randomUUID();
      const other = await startApp({ databaseUrl: database.url, pipeline, controllers: [ChargesController] });
      try {
        const met = proxy.faultNextCommit(fault);
        const anew = (async () => {
          await met;
          proxy.setDown(true);
          // The lock of the first life ends with its transaction.
          await database.rows(end, [key]);
          expect(await charges(key)).toHaveLength(before);
          const answer = await send(`${other.url}/charges/${key}`, { headers: { 'idempotency-key': key } });
          proxy.setDown(false);
          return answer;
        })();
        const [first, second] = [await charge(key), await anew];

        // One charge for each life that committed, and no 201 for one that may not have.
        expect(await charges(key)).toHaveLength(before + 1);
        expect(resolutions()).toEqual(['unresolved']);
        expect(second.status).toBe(201);
        expect(first.status).toBe(503);
        expect(first.json()).toMatchObject({ code: 'IDEMPOTENCY_OUTCOME_UNKNOWN' });
      } finally {
        await other.close();
      }
    });

    it('answers 503 outcome unknown when the record was deleted before it could be asked', async () => {
      const key = randomUUID();
      const met = proxy.faultNextCommit('swallow-answer');
      const deletion = (async () => {
        await met;
        proxy.setDown(true);
        await database.rows('DELETE FROM idempotency_keys WHERE key = $1', [key]);
        proxy.setDown(false);
      })();
      const first = await charge(key);
      await deletion;

      expect(resolutions()).toEqual(['unresolved']);
      expect(first.status).toBe(503);
      expect(first.json()).toMatchObject({ code: 'IDEMPOTENCY_OUTCOME_UNKNOWN' });
    });
  },
);
