import { randomUUID } from 'node:crypto';
import { Idempotent, outsideAttempt } from 'nestjs-pg-idempotency';
import type { Pool } from 'pg';
import { DataSource } from 'typeorm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { SETUPS } from './support/app.js';
import { JournalEntry, LedgerEntry, openStage, scripted, type StagedApp } from './support/stage.js';
import { deferred, until } from './support/until.js';

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
