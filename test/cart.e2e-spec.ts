import { randomUUID } from 'node:crypto';
import type { INestApplication } from '@nestjs/common';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createCartApp } from '../apps/cart/src/create-app.js';
import { PLATFORMS } from './support/app.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { type Answer, send } from './support/http.js';
import { isInFlight } from './support/in-flight.js';
import { until } from './support/until.js';

interface Added {
  userId: string;
  itemId: string;
  quantity: number;
  addedAt: string;
  cart: { items: { itemId: string; quantity: number }[]; totalQuantity: number };
}

describe.each(PLATFORMS)('the cart API on %s', (platform) => {
  let database: TestDatabase;
  let app: INestApplication;
  let url: string;

  const start = async (options: { demo?: boolean; databaseUrl?: string } = {}): Promise<INestApplication> => {
    const started = await createCartApp({ databaseUrl: database.url, platform, logger: false, ...options });
    await started.listen(0, '127.0.0.1');
    return started;
  };

  beforeAll(async () => {
    database = await createDatabase();
    app = await start();
    url = await app.getUrl();
  });
  afterAll(async () => {
    await app.close();
    await database.drop();
  });

  const add = (
    user: string,
    body: unknown,
    { key = randomUUID(), headers = {}, at = url }: { key?: string; headers?: object; at?: string } = {},
  ): Promise<Answer> =>
    send(`${at}/carts/${user}/items`, { body, headers: { 'idempotency-key': key, ...headers } });
  const rowsOf = (user: string): Promise<{ item_id: string; quantity: number }[]> =>
    database.rows('SELECT item_id, quantity FROM cart_items WHERE user_id = $1 ORDER BY item_id', [user]);
  const recordsOf = (key: string): Promise<unknown[]> =>
    database.rows('SELECT FROM idempotency_keys WHERE key = $1', [key]);
  const get = (path: string): Promise<Answer> => send(`${url}${path}`, { method: 'GET' });

  it('adds an item, and raises its quantity when it is added again', async () => {
    const user = randomUUID();
    const first = await add(user, { itemId: 'book', quantity: 2 });
    const second = await add(user, { itemId: 'book', quantity: 3 });
    const third = await add(user, { itemId: 'apple', quantity: 1 });
    expect(await rowsOf(user)).toEqual([
      { item_id: 'apple', quantity: 1 },
      { item_id: 'book', quantity: 5 },
    ]);
    expect([first, second, third].map(({ status }) => status)).toEqual([201, 201, 201]);
    const { addedAt, ...added } = second.json<Added>();
    expect(added).toEqual({
      userId: user,
      itemId: 'book',
      quantity: 5,
      cart: { items: [{ itemId: 'book', quantity: 5 }], totalQuantity: 5 },
    });
    expect(new Date(addedAt).toISOString()).toBe(addedAt);
    expect(third.json<Added>().cart).toEqual({
      items: [
        { itemId: 'apple', quantity: 1 },
        { itemId: 'book', quantity: 5 },
      ],
      totalQuantity: 6,
    });
    expect((await get(`/carts/${user}`)).json()).toEqual({ userId: user, ...third.json<Added>().cart });
  });

  it('adds once per key and replays the answer, also after the cart has changed', async () => {
    const user = randomUUID();
    const key = randomUUID();
    const first = await add(user, { itemId: 'book', quantity: 2 }, { key });
    await add(user, { itemId: 'book', quantity: 5 });
    const replay = await add(user, { quantity: 2, itemId: 'book' }, { key });
    expect(await rowsOf(user)).toEqual([{ item_id: 'book', quantity: 7 }]);
    expect(replay.status).toBe(200);
    expect(replay.headers['idempotent-replayed']).toBe('true');
    expect(replay.body.equals(first.body)).toBe(true);
  });

  it('keeps the carts of two users apart, with one key too', async () => {
    const [alice, bob, key] = [randomUUID(), randomUUID(), randomUUID()];
    const answers = [
      await add(alice, { itemId: 'book', quantity: 1 }, { key }),
      await add(bob, { itemId: 'book', quantity: 1 }, { key }),
    ];
    expect([await rowsOf(alice), await rowsOf(bob)]).toEqual([
      [{ item_id: 'book', quantity: 1 }],
      [{ item_id: 'book', quantity: 1 }],
    ]);
    expect(answers.map(({ status }) => status)).toEqual([201, 201]);
    expect(answers[1]?.text).not.toContain(alice);
  });

  it('refuses to add without a key', async () => {
    const user = randomUUID();
    const answer = await send(`${url}/carts/${user}/items`, { body: { itemId: 'book', quantity: 1 } });
    expect(await rowsOf(user)).toEqual([]);
    expect(answer.status).toBe(400);
    expect(answer.json()).toMatchObject({ code: 'IDEMPOTENCY_KEY_REQUIRED' });
  });

  it.each([
    ['no item', { quantity: 1 }],
    ['an empty item', { itemId: '', quantity: 1 }],
    ['an item of 65 characters', { itemId: 'x'.repeat(65), quantity: 1 }],
    ['an item that is a number', { itemId: 5, quantity: 1 }],
    ['an item with NUL in it', { itemId: 'a\u0000b', quantity: 1 }],
    ['no quantity', { itemId: 'book' }],
    ['quantity 0', { itemId: 'book', quantity: 0 }],
    ['quantity 1000', { itemId: 'book', quantity: 1000 }],
    ['quantity 1.5', { itemId: 'book', quantity: 1.5 }],
    ['a quantity as text', { itemId: 'book', quantity: '1' }],
    ['a member more', { itemId: 'book', quantity: 1, price: 0 }],
    ['an array', [{ itemId: 'book', quantity: 1 }]],
    ['no body', undefined],
  ])(
    'refuses %s with 400 and leaves no record, so that the key works for the corrected request',
    async (_, body) => {
      const user = randomUUID();
      const key = randomUUID();
      const refused = await add(user, body, { key });
      expect(await rowsOf(user)).toEqual([]);
      expect(await recordsOf(key)).toEqual([]);
      expect(refused.status).toBe(400);
      expect((await add(user, { itemId: 'book', quantity: 1 }, { key })).status).toBe(201);
      expect(await rowsOf(user)).toEqual([{ item_id: 'book', quantity: 1 }]);
    },
  );

  it.each([
    { itemId: 'x', quantity: 1 },
    { itemId: 'ü🛒 "quoted" '.padEnd(60, 'x'), quantity: 999 },
  ])('takes %o', async ({ itemId, quantity }) => {
    const user = randomUUID();
    expect((await add(user, { itemId, quantity })).status).toBe(201);
    expect(await rowsOf(user)).toEqual([{ item_id: itemId, quantity }]);
  });

  it('refuses more of an item than a cart holds with a 409 that is final', async () => {
    const user = randomUUID();
    const key = randomUUID();
    await add(user, { itemId: 'book', quantity: 1 });
    await database.pool.query('UPDATE cart_items SET quantity = 999999 WHERE user_id = $1', [user]);
    const first = await add(user, { itemId: 'book', quantity: 2 }, { key });
    const replay = await add(user, { itemId: 'book', quantity: 2 }, { key });
    expect(await rowsOf(user)).toEqual([{ item_id: 'book', quantity: 999_999 }]);
    expect([first.status, replay.status]).toEqual([409, 409]);
    expect(replay.headers['idempotent-replayed']).toBe('true');
    expect(replay.text).toBe(first.text);
  });

  it('sets and removes items without a key, the same however often it is done', async () => {
    const user = randomUUID();
    const item = `${url}/carts/${user}/items/book`;
    for (let times = 0; times < 2; times++) {
      const set = await send(item, { method: 'PUT', body: { quantity: 4 } });
      expect(await rowsOf(user)).toEqual([{ item_id: 'book', quantity: 4 }]);
      expect([set.status, set.json()]).toEqual([200, { itemId: 'book', quantity: 4 }]);
    }
    for (let times = 0; times < 2; times++) {
      const removed = await send(item, { method: 'DELETE' });
      expect(await rowsOf(user)).toEqual([]);
      expect([removed.status, removed.text]).toEqual([204, '']);
    }
    expect((await send(item, { method: 'PUT', body: { quantity: 0 } })).status).toBe(400);
    expect(await database.rows('SELECT FROM idempotency_keys WHERE scope = $1', [user])).toEqual([]);
  });

  it('shows an empty cart for whoever has none, and 400 for a name that is none', async () => {
    expect((await get('/carts/nobody')).json()).toEqual({ userId: 'nobody', items: [], totalQuantity: 0 });
    expect((await get('/carts/no%20body')).status).toBe(400);
    expect((await add('no%20body', { itemId: 'book', quantity: 1 })).status).toBe(400);
  });

  describe('the demo headers', () => {
    it('hold the handler after its write: nobody sees the row, and a duplicate is refused', async () => {
      const user = randomUUID();
      const key = randomUUID();
      const body = { itemId: 'book', quantity: 1 };
      const began = performance.now();
      const held = add(user, body, { key, headers: { 'x-demo-delay-ms': '600' } });
      await until('the handler has written', async () => {
        const locks = await database.rows(
          `SELECT FROM pg_locks WHERE relation = 'cart_items'::regclass AND mode = 'RowExclusiveLock'`,
        );
        return locks.length > 0;
      });
      const duplicate = await add(user, body, { key });
      expect(await rowsOf(user)).toEqual([]);
      expect(duplicate.status).toBe(409);
      expect((await held).status).toBe(201);
      expect(performance.now() - began).toBeGreaterThan(590);
      expect(await rowsOf(user)).toEqual([{ item_id: 'book', quantity: 1 }]);
    });

    it('fail the handler after its write: no effect, and the retry succeeds', async () => {
      const user = randomUUID();
      const key = randomUUID();
      const body = { itemId: 'book', quantity: 1 };
      const failed = await add(user, body, { key, headers: { 'x-demo-fail': 'after-write' } });
      expect(await rowsOf(user)).toEqual([]);
      expect(failed.status).toBe(500);
      expect((await add(user, body, { key })).status).toBe(201);
      expect(await rowsOf(user)).toEqual([{ item_id: 'book', quantity: 1 }]);
    });

    it.each([
      { 'x-demo-delay-ms': '10001' },
      { 'x-demo-delay-ms': '-1' },
      { 'x-demo-delay-ms': 'soon' },
      { 'x-demo-fail': 'before-write' },
    ])('are refused with values that mean nothing: %o', async (headers) => {
      const user = randomUUID();
      expect((await add(user, { itemId: 'book', quantity: 1 }, { headers })).status).toBe(400);
      expect(await rowsOf(user)).toEqual([]);
    });

    it('do nothing when they are switched off', async () => {
      const other = await start({ demo: false });
      try {
        const headers = { 'x-demo-fail': 'after-write', 'x-demo-delay-ms': 'soon' };
        const at = await other.getUrl();
        expect((await add(randomUUID(), { itemId: 'book', quantity: 1 }, { headers, at })).status).toBe(201);
      } finally {
        await other.close();
      }
    });
  });

  it('is healthy while its database answers, and says 503 when it does not', async () => {
    expect((await get('/health')).status).toBe(200);
    const lost = await createDatabase();
    const other = await start({ databaseUrl: lost.url });
    try {
      await lost.drop();
      const answer = await send(`${await other.getUrl()}/health`, { method: 'GET' });
      expect(answer.status).toBe(503);
      expect(answer.json()).toMatchObject({ error: { database: { status: 'down' } } });
    } finally {
      await other.close();
    }
  });

  it('says 503 as soon as it shuts down, while what is in flight comes to its end', async () => {
    const other = await start();
    const at = await other.getUrl();
    const user = randomUUID();
    const key = randomUUID();
    const adding = add(
      user,
      { itemId: 'book', quantity: 2 },
      { key, headers: { 'x-demo-delay-ms': '1000' }, at },
    );
    await isInFlight(database, key);
    const closing = other.close();
    const health = await send(`${at}/health`, { method: 'GET' });
    const [answer] = await Promise.all([adding, closing]);
    expect(await rowsOf(user)).toEqual([{ item_id: 'book', quantity: 2 }]);
    expect([health.status, answer.status]).toEqual([503, 201]);
  });

  it('describes itself: the page, and the key with its answers in the OpenAPI document', async () => {
    expect((await get('/docs')).text).toContain('swagger-ui');
    const document = (await get('/docs-json')).json<{
      paths: Record<string, Record<string, { parameters: { name: string }[]; responses: object }>>;
    }>();
    const operation = document.paths['/carts/{userId}/items']?.['post'];
    expect(operation?.parameters.map(({ name }) => name)).toContain('Idempotency-Key');
    expect(Object.keys(operation?.responses ?? {})).toEqual(
      expect.arrayContaining(['200', '201', '400', '409', '422', '503']),
    );
    expect(
      document.paths['/carts/{userId}/items/{itemId}']?.['put']?.parameters.map(({ name }) => name),
    ).toEqual(['userId', 'itemId']);
  });
});
