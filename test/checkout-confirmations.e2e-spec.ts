import { randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { PLATFORMS } from './support/app.js';
import {
  allSent,
  checkout,
  confirmationsOf,
  database,
  expectBoughtOnce,
  jobsOf,
  listOf,
  put,
  start,
  url,
  useCheckout,
  withApp,
} from './support/checkout.js';
import { createDatabase } from './support/database.js';
import { until } from './support/until.js';

describe.each(PLATFORMS)('checkout on %s', (platform) => {
  useCheckout(platform);

  it('queues no confirmation when the transaction that confirms the order does not commit', async () => {
    const [user, key] = [randomUUID(), randomUUID()];
    await put(user, { book: 1 });
    await database.rows(`
      CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;
      CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON orders DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.user_id = '${user}') EXECUTE FUNCTION refuse()`);
    try {
      expect((await checkout(user, key)).status).toBe(500);
      expect(await jobsOf(user)).toEqual([]);
      expect((await listOf(user)).filter(({ chargeId }) => chargeId !== null)).toEqual([]);
    } finally {
      await database.rows('DROP TRIGGER refuse ON orders; DROP FUNCTION refuse()');
    }
    await expectBoughtOnce(user, await checkout(user, key), 1);
  });

  describe('the confirmations', () => {
    it('are each handed out once with several instances', async () => {
      const users = Array.from({ length: 5 }, () => randomUUID());
      const others = await Promise.all(Array.from({ length: 3 }, () => start()));
      try {
        const urls = [url, ...(await Promise.all(others.map((other) => other.getUrl())))];
        for (let round = 0; round < 4; round++) {
          await Promise.all(
            users.map(async (user, index) => {
              await put(user, { book: 1 });
              const at = urls[(index + round) % urls.length] as string;
              expect((await checkout(user, randomUUID(), at)).status).toBe(201);
            }),
          );
        }
        for (const user of users) {
          const jobs = await allSent(user);
          expect(jobs.map(({ retry_count }) => retry_count)).toEqual([0, 0, 0, 0]);
          expect(await confirmationsOf(user)).toHaveLength(4);
        }
      } finally {
        await Promise.all(others.map((other) => other.close()));
      }
    });

    it('go on after the connections of the queue were cut', async () => {
      const [user, key] = [randomUUID(), randomUUID()];
      await put(user, { book: 1 });
      const cut = await database.rows(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'cart confirmations'`,
      );
      expect(cut.length).toBeGreaterThan(0);
      // Behind a pooler they may have been those of anybody: then the first try meets one.
      const answer = await until('it is bought', async () => {
        const tried = await checkout(user, key);
        return tried.status < 300 ? tried : undefined;
      });
      await expectBoughtOnce(user, answer, 1);
    });

    it('wait for an instance that sends', async () => {
      const lone = await createDatabase();
      const user = randomUUID();
      const states = (): Promise<{ state: string }[]> => lone.rows('SELECT state FROM pgboss.job');
      try {
        await withApp({ databaseUrl: lone.url, confirmations: false }, async (at) => {
          await put(user, { book: 1 }, at);
          expect((await checkout(user, randomUUID(), at)).status).toBe(201);
        });
        expect(await states()).toEqual([{ state: 'created' }]);
        expect(await lone.rows('SELECT FROM order_confirmations')).toEqual([]);
        await withApp({ databaseUrl: lone.url }, async () => {
          await until('it is sent', async () => (await states())[0]?.state === 'completed');
          expect(await lone.rows('SELECT FROM order_confirmations')).toHaveLength(1);
        });
      } finally {
        await lone.drop();
      }
    });

    it('are not sent again when an instance died after it had sent and before it had said so', async () => {
      const lone = await createDatabase();
      const user = randomUUID();
      try {
        await withApp({ databaseUrl: lone.url, confirmations: false }, async (at) => {
          await put(user, { book: 1 }, at);
          expect((await checkout(user, randomUUID(), at)).status).toBe(201);
        });
        await lone.rows(`UPDATE pgboss.job SET state = 'active', started_on = now() - interval '2 minutes'`);
        const [sent] = await lone.rows(
          `INSERT INTO order_confirmations SELECT order_id, now() FROM orders RETURNING order_id, sent_at`,
        );
        await withApp({ databaseUrl: lone.url }, async () => {
          const [job] = await until(
            'the job is done by another instance',
            async () => {
              const jobs = await lone.rows(`SELECT retry_count FROM pgboss.job WHERE state = 'completed'`);
              return jobs.length > 0 && jobs;
            },
            40_000,
          );
          expect(job).toEqual({ retry_count: 1 });
        });
        expect(await lone.rows('SELECT order_id, sent_at FROM order_confirmations')).toEqual([sent]);
      } finally {
        await lone.drop();
      }
    });
  });
});
