import { randomUUID } from 'node:crypto';
import type { INestApplication } from '@nestjs/common';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type CartAppOptions, createCartApp } from '../apps/cart/src/create-app.js';
import { PLATFORMS } from './support/app.js';
import { startCart } from './support/cart-process.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { type Answer, send, statuses } from './support/http.js';
import { type Charge, openPayment, type Payment, startStubbornProvider } from './support/payment.js';
import { until } from './support/until.js';

interface CheckedOut {
  orderId: string;
  chargeId: string | null;
  totalQuantity: number;
}

interface Job {
  state: string;
  retry_count: number;
  order_id: string;
}

describe.each(PLATFORMS)('checkout on %s', (platform) => {
  let database: TestDatabase;
  let payment: Payment;
  let app: INestApplication;
  let url: string;

  const start = async (options: Partial<CartAppOptions> = {}): Promise<INestApplication> => {
    const started = await createCartApp({
      databaseUrl: database.url,
      platform,
      logger: false,
      paymentProviderUrl: payment.url,
      paymentTimeoutMs: 500,
      ...options,
    });
    await started.listen(0, '127.0.0.1');
    return started;
  };
  /** Runs with an app more, which is closed again. */
  const withApp = async (
    options: Partial<CartAppOptions>,
    use: (at: string) => Promise<void>,
  ): Promise<void> => {
    const other = await start(options);
    try {
      await use(await other.getUrl());
    } finally {
      await other.close();
    }
  };

  beforeAll(async () => {
    [database, payment] = await Promise.all([createDatabase(), openPayment()]);
    app = await start();
    url = await app.getUrl();
  });
  afterEach(async () => payment.setFaults({}));
  afterAll(async () => {
    await app.close();
    await payment.close();
    await database.drop();
  });

  const put = async (user: string, quantities: Record<string, number>, at = url): Promise<void> => {
    for (const [itemId, quantity] of Object.entries(quantities)) {
      const { status } = await send(`${at}/carts/${user}/items/${itemId}`, {
        method: 'PUT',
        body: { quantity },
      });
      expect(status).toBe(200);
    }
  };
  const checkout = (user: string, key: string = randomUUID(), at = url): Promise<Answer> =>
    send(`${at}/carts/${user}/checkout`, { headers: { 'idempotency-key': key } });
  const cartOf = async (user: string): Promise<unknown> =>
    (await send(`${url}/carts/${user}`, { method: 'GET' })).json()['items'];
  const listOf = async (user: string): Promise<CheckedOut[]> =>
    (await send(`${url}/orders/${user}`, { method: 'GET' })).json<CheckedOut[]>();
  /** Charges for orders of a user. The other tests' share the provider. */
  const chargesOf = async (user: string): Promise<Charge[]> => {
    const ids = (await listOf(user)).map(({ chargeId }) => chargeId);
    return (await payment.charges()).filter(({ chargeId }) => ids.includes(chargeId));
  };
  const jobsOf = (user: string): Promise<Job[]> =>
    database.rows<Job>(
      `SELECT job.state, retry_count, order_id FROM pgboss.job JOIN orders ON order_id = (data ->> 'orderId')::uuid
       WHERE name = 'order-confirmation' AND user_id = $1`,
      [user],
    );
  const confirmationsOf = (user: string): Promise<unknown[]> =>
    database.rows(
      'SELECT order_id FROM order_confirmations JOIN orders USING (order_id) WHERE user_id = $1',
      [user],
    );
  const allSent = (user: string): Promise<Job[]> =>
    until('the confirmations are sent', async () => {
      const jobs = await jobsOf(user);
      return jobs.length > 0 && jobs.every(({ state }) => state === 'completed') && jobs;
    });
  /** What must hold of a user who has bought what was in the cart, whatever went wrong on the way. */
  const expectBoughtOnce = async (user: string, answer: Answer, totalQuantity: number): Promise<void> => {
    const { orderId, chargeId } = answer.json<CheckedOut>();
    expect(await cartOf(user)).toEqual([]);
    expect(await listOf(user)).toEqual([{ orderId, chargeId, totalQuantity }]);
    expect(await chargesOf(user)).toMatchObject([{ chargeId, amount: totalQuantity * 100 }]);
    expect(await allSent(user)).toEqual([{ state: 'completed', retry_count: 0, order_id: orderId }]);
    expect(await confirmationsOf(user)).toEqual([{ order_id: orderId }]);
  };

  it('makes one order of the cart, charges it, and sends a confirmation', async () => {
    const user = randomUUID();
    await put(user, { book: 2, pen: 3 });
    const answer = await checkout(user);
    expect([answer.status, answer.headers['idempotent-replayed']]).toEqual([201, 'false']);
    expect(Object.keys(answer.json())).toEqual(['orderId', 'chargeId', 'totalQuantity']);
    expect(answer.json<CheckedOut>().totalQuantity).toBe(5);
    await expectBoughtOnce(user, answer, 5);
  });

  it('replays the bytes with 200, also when the cart has been filled again', async () => {
    const [user, key] = [randomUUID(), randomUUID()];
    await put(user, { book: 2 });
    const first = await checkout(user, key);
    await put(user, { pen: 1 });
    const replay = await checkout(user, key);
    expect(await cartOf(user)).toEqual([{ itemId: 'pen', quantity: 1 }]);
    expect(await listOf(user)).toEqual([first.json()]);
    expect([replay.status, replay.headers['idempotent-replayed']]).toEqual([200, 'true']);
    expect(replay.body.equals(first.body)).toBe(true);
  });

  it('refuses an empty cart with a 409 that is final', async () => {
    const [user, key] = [randomUUID(), randomUUID()];
    const first = await checkout(user, key);
    await put(user, { book: 1 });
    const replay = await checkout(user, key);
    expect(await listOf(user)).toEqual([]);
    expect(await cartOf(user)).toEqual([{ itemId: 'book', quantity: 1 }]);
    expect([first.status, replay.status]).toEqual([409, 409]);
    expect(first.json()['message']).toBe('The cart is empty: there is nothing to check out');
    expect(replay.text).toBe(first.text);
    expect((await checkout(user)).status).toBe(201);
  });

  it('sells a cart once to two checkouts at once', async () => {
    for (let round = 0; round < 5; round++) {
      const user = randomUUID();
      await put(user, { book: 2, pen: 1, ink: 4 });
      const answers = await Promise.all([checkout(user), checkout(user)]);
      expect(statuses(answers)).toEqual({ 201: 1, 409: 1 });
      const sold = answers.find(({ status }) => status === 201) as Answer;
      await expectBoughtOnce(user, sold, 7);
    }
  });

  it.each([
    ['fails before it has charged', { failBefore: 1 }, 502],
    ['fails after it has charged', { failAfter: 1 }, 502],
    ['breaks off after it has charged', { dropAfter: 1 }, 502],
    ['is too slow', { delayMs: 1_500 }, 504],
  ])('buys once when the provider %s and the client tries again', async (_, faults, status) => {
    const [user, key] = [randomUUID(), randomUUID()];
    await put(user, { book: 2, pen: 1 });
    await payment.setFaults(faults);
    for (let tries = 0; tries < 2; tries++) expect((await checkout(user, key)).status).toBe(status);
    expect(await confirmationsOf(user)).toEqual([]);
    await payment.setFaults({});
    const answer = await checkout(user, key);
    expect(answer.status).toBe(201);
    await expectBoughtOnce(user, answer, 3);
  });

  it('goes on with what was reserved, and leaves alone what has come into the cart since', async () => {
    const [user, key] = [randomUUID(), randomUUID()];
    await put(user, { book: 2 });
    await payment.setFaults({ failAfter: 1 });
    expect((await checkout(user, key)).status).toBe(502);
    const [reserved] = await listOf(user);
    expect(reserved).toMatchObject({ chargeId: null, totalQuantity: 2 });
    expect(await cartOf(user)).toEqual([]);
    await put(user, { pen: 5 });
    await payment.setFaults({});
    const answer = await checkout(user, key);
    expect(answer.json()).toMatchObject({ orderId: reserved?.orderId, totalQuantity: 2 });
    expect(await cartOf(user)).toEqual([{ itemId: 'pen', quantity: 5 }]);
    expect(await chargesOf(user)).toMatchObject([{ amount: 200 }]);
  });

  it('puts a declined cart back, answers 402 for good, and lists no order', async () => {
    const [user, key] = [randomUUID(), randomUUID()];
    const provider = await startStubbornProvider(402);
    await put(user, { book: 2, pen: 1 });
    await withApp({ paymentProviderUrl: provider.url }, async (at) => {
      const answers = [await checkout(user, key, at), await checkout(user, key, at)];
      expect(answers.map(({ status }) => status)).toEqual([402, 402]);
      expect(answers[1]?.text).toBe(answers[0]?.text);
    });
    await provider.close();
    expect(provider.keys).toHaveLength(1);
    expect(await listOf(user)).toEqual([]);
    expect(await cartOf(user)).toEqual([
      { itemId: 'book', quantity: 2 },
      { itemId: 'pen', quantity: 1 },
    ]);
    expect(await jobsOf(user)).toEqual([]);
    const answer = await checkout(user);
    await expectBoughtOnce(user, answer, 3);
  });

  it.each([400, 401, 404, 409, 422, 425, 429, 302, 200])(
    'takes %i of the provider for a failure, asks again with the same key, and ends no order',
    async (status) => {
      const [user, key] = [randomUUID(), randomUUID()];
      const provider = await startStubbornProvider(status);
      await put(user, { book: 1 });
      await withApp({ paymentProviderUrl: provider.url }, async (at) => {
        for (let tries = 0; tries < 2; tries++) expect((await checkout(user, key, at)).status).toBe(502);
      });
      await provider.close();
      expect(provider.keys).toEqual([provider.keys[0], provider.keys[0]]);
      const answer = await checkout(user, key);
      expect(answer.status).toBe(201);
      await expectBoughtOnce(user, answer, 1);
    },
  );

  it('answers 502 when nobody listens at the address of the provider', async () => {
    const [user, key] = [randomUUID(), randomUUID()];
    await put(user, { book: 1 });
    await withApp({ paymentProviderUrl: 'http://127.0.0.1:9' }, async (at) =>
      expect((await checkout(user, key, at)).status).toBe(502),
    );
    await expectBoughtOnce(user, await checkout(user, key), 1);
  });

  it('buys once when the process is killed after the charge, and the client tries again elsewhere', async () => {
    const [user, key] = [randomUUID(), randomUUID()];
    await put(user, { book: 2 });
    const before = (await payment.charges()).length;
    const cart = await startCart({
      databaseUrl: database.url,
      env: { PAYMENT_PROVIDER_URL: payment.url, LEASE_TTL: '2s', CONFIRMATIONS: 'off' },
    });
    const client = await database.pool.connect();
    try {
      // Nothing can be queued, so that the attempt comes no further than that.
      await client.query('BEGIN; LOCK TABLE pgboss.job IN SHARE MODE');
      const lost = checkout(user, key, cart.url).catch(() => undefined);
      await until('the charge is made', async () => (await payment.charges()).length > before);
      await until('the attempt queues the confirmation', async () => {
        const waiting = await client.query(
          `SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
           WHERE relation = 'pgboss.job'::regclass AND NOT granted AND application_name = 'cart'`,
        );
        return waiting.rows.length > 0;
      });
      await cart.end('SIGKILL');
      await lost;
    } finally {
      await client.query('ROLLBACK');
      client.release();
      await cart.end('SIGKILL');
    }
    const answer = await until(
      'the checkout is taken over',
      async () => {
        const retried = await checkout(user, key);
        return retried.status === 201 && retried;
      },
      30_000,
    );
    await expectBoughtOnce(user, answer, 2);
  });

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

  it('lists orders oldest first, nothing for whoever has none, and 400 for a name that is none', async () => {
    const user = randomUUID();
    const orders: unknown[] = [];
    for (const quantity of [3, 1, 2]) {
      await put(user, { book: quantity });
      orders.push((await checkout(user)).json());
    }
    expect(await listOf(user)).toEqual(orders);
    expect(await listOf('nobody')).toEqual([]);
    expect((await send(`${url}/orders/no%20body`, { method: 'GET' })).status).toBe(400);
  });

  it('needs a key', async () => {
    const user = randomUUID();
    await put(user, { book: 1 });
    const answer = await send(`${url}/carts/${user}/checkout`);
    expect(answer.json()).toMatchObject({ status: 400, code: 'IDEMPOTENCY_KEY_REQUIRED' });
    expect(await cartOf(user)).toEqual([{ itemId: 'book', quantity: 1 }]);
  });

  it('describes itself in the OpenAPI document', async () => {
    const { paths } = (await send(`${url}/docs-json`, { method: 'GET' })).json<{
      paths: Record<string, Record<string, { parameters: { name: string }[]; responses: object }>>;
    }>();
    const operation = paths['/carts/{userId}/checkout']?.['post'];
    expect(operation?.parameters.map(({ name }) => name).toSorted()).toEqual(['Idempotency-Key', 'userId']);
    expect(Object.keys(operation?.responses ?? {})).toEqual(
      expect.arrayContaining(['200', '201', '400', '402', '409', '422', '502', '503', '504']),
    );
    expect(Object.keys(paths['/orders/{userId}']?.['get']?.responses ?? {})).toEqual(['200']);
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
