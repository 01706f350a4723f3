import { randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { PLATFORMS } from './support/app.js';
import { startCart } from './support/cart-process.js';
import {
  cartOf,
  chargesOf,
  checkout,
  type CheckedOut,
  confirmationsOf,
  database,
  expectBoughtOnce,
  jobsOf,
  listOf,
  payment,
  put,
  url,
  useCheckout,
  withApp,
} from './support/checkout.js';
import { type Answer, send, statuses } from './support/http.js';
import { startStubbornProvider } from './support/payment.js';
import { until } from './support/until.js';

describe.each(PLATFORMS)('checkout on %s', (platform) => {
  useCheckout(platform);

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
});
