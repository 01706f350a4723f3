import { describe, expect, it } from 'vitest';
import { PLATFORMS } from './support/app.js';
import { type Answer, type RequestOptions, send } from './support/http.js';
import {
  app,
  counts,
  database,
  effects,
  expectProblem,
  expectReplay,
  post,
  record,
  start,
  useIdentity,
} from './support/identity.js';
import { deferred, until } from './support/until.js';

describe.each(PLATFORMS)('identity of a request on %s', (platform) => {
  useIdentity(platform);

  describe('a key used for another request', () => {
    const original = { itemId: 'a', quantity: 1, note: null };
    const others: [what: string, path: string, body: unknown][] = [
      ['another value', '/orders/1/items?size=m&gift=no', { ...original, quantity: 2 }],
      ['a value of another type', '/orders/1/items?size=m&gift=no', { ...original, quantity: '1' }],
      ['null in place of absence', '/orders/1/items?size=m&gift=no', { itemId: 'a', quantity: 1 }],
      ['a member more', '/orders/1/items?size=m&gift=no', { ...original, more: 0 }],
      ['another path parameter', '/orders/2/items?size=m&gift=no', original],
      ['another query value', '/orders/1/items?size=l&gift=no', original],
      ['a query parameter more', '/orders/1/items?size=m&gift=no&x', original],
      ['a query parameter less', '/orders/1/items?size=m', original],
      ['values of the query swapped', '/orders/1/items?size=no&gift=m', original],
      ['an empty body', '/orders/1/items?size=m&gift=no', {}],
      ['an array around it', '/orders/1/items?size=m&gift=no', [original]],
      ['another route', '/orders/mutating?size=m&gift=no', original],
    ];

    it.each(others)(
      'is refused with 422 for %s, and leaves the stored answer untouched',
      async (_what, path, body) => {
        const first = await post('/orders/1/items?size=m&gift=no', 'k', { body: original });
        expect(first.status).toBe(201);
        const before = await record();

        const reused = await post(path, 'k', { body });

        expect(await counts()).toEqual({ effects: 1, records: 1 });
        // Not even the trace of a lock: xmin and xmax are compared too.
        expect(await record()).toEqual(before);
        expectProblem(reused, 422, 'IDEMPOTENCY_KEY_REUSED');
        expectReplay(await post('/orders/1/items?size=m&gift=no', 'k', { body: original }), first);
      },
    );

    it('is refused with 422, not 409, while the first is in flight, which goes on undisturbed', async () => {
      const gate = deferred();
      effects.gates.set('held', gate);
      const held = { headers: { 'x-gate': 'held' } };
      const first = post('/orders/1/items?size=m', 'k', { body: original, ...held });
      await until('the handler is entered', () => effects.entered.has('held'));

      const reused = [
        await post('/orders/1/items?size=m', 'k', { body: { ...original, quantity: 2 } }),
        await post('/orders/2/items?size=m', 'k', { body: original }),
        await post('/orders/1/items?size=l', 'k', { body: original }),
      ];
      const same = await post('/orders/1/items?size=m', 'k', { body: original });
      gate.resolve();
      const answer = await first;

      expect(await counts()).toEqual({ effects: 1, records: 1 });
      for (const refused of reused) expectProblem(refused, 422, 'IDEMPOTENCY_KEY_REUSED');
      expectProblem(same, 409, 'IDEMPOTENCY_KEY_IN_USE');
      expect(same.headers['retry-after']).toBe('1');
      expect(answer.status).toBe(201);
      expectReplay(await post('/orders/1/items?size=m', 'k', { body: original }), answer);
    });

    it('is refused with 422 by another process too, while the first is in flight there', async () => {
      // Another application on the same table: nothing is known of the first but its row.
      const other = await start();
      try {
        const gate = deferred();
        effects.gates.set('elsewhere', gate);
        const first = post('/orders/1/items', 'k', { body: original, headers: { 'x-gate': 'elsewhere' } });
        await until('the handler is entered', () => effects.entered.has('elsewhere'));

        const elsewhere = (body: unknown): Promise<Answer> =>
          send(`${other.url}/orders/1/items`, { body, headers: { 'Idempotency-Key': 'k' } });
        const reused = await elsewhere({ ...original, quantity: 2 });
        const same = await elsewhere(original);
        gate.resolve();
        const answer = await first;

        expect(await counts()).toEqual({ effects: 1, records: 1 });
        expectProblem(reused, 422, 'IDEMPOTENCY_KEY_REUSED');
        expectProblem(same, 409, 'IDEMPOTENCY_KEY_IN_USE');
        expectReplay(await elsewhere(original), answer);
      } finally {
        await other.close();
      }
    });
  });

  describe('the same request in another form', () => {
    it('is replayed with the members of its body in another order, at any depth', async () => {
      const first = await post('/orders/1/items', 'k', {
        body: { a: 1, b: { c: [1, { d: 2, e: 3 }], f: 4 } },
      });
      const again = await post('/orders/1/items', 'k', {
        body: ' { "b" : {"f":4, "c":[1,{"e":3,"d":2}]},\n"a": 1.0 } ',
        headers: { 'content-type': 'application/json; charset=utf-8' },
      });
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expectReplay(again, first);
    });

    it('is another one with the elements of an array in another order', async () => {
      await post('/orders/1/items', 'k', { body: [1, 2] });
      const reused = await post('/orders/1/items', 'k', { body: [2, 1] });
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expectProblem(reused, 422, 'IDEMPOTENCY_KEY_REUSED');
    });

    it('is replayed with query parameters in another order or escaped in another way', async () => {
      const first = await post('/orders/1/items?b=2%20x&a=%7e1&a=0', 'k');
      const again = await post('/orders/1/items?a=~1&a=0&b=2+x', 'k');
      const trailing = await post('/orders/%31/items?a=~1&a=0&b=2+x', 'k');
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expectReplay(again, first);
      expectReplay(trailing, first);
      // Values of one parameter have an order that means something.
      expectProblem(await post('/orders/1/items?a=0&a=~1&b=2+x', 'k'), 422, 'IDEMPOTENCY_KEY_REUSED');
    });

    it('has one key, quoted or bare', async () => {
      const first = await post('/orders/1/items', 'order 1/a');
      expectReplay(await post('/orders/1/items', '"order 1/a"'), first);
      expectReplay(await post('/orders/1/items', '  "order 1/a"  '), first);
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      const quoted = await post('/orders/1/items', '"with \\"quotes\\" and, commas"');
      expect(quoted.status).toBe(201);
      expect(await database.rows('SELECT key FROM idempotency_keys ORDER BY created_at')).toEqual([
        { key: 'order 1/a' },
        { key: 'with "quotes" and, commas' },
      ]);
    });

    it('has two keys when they differ in case', async () => {
      await post('/orders/1/items', 'Key');
      await post('/orders/1/items', 'key');
      expect(await counts()).toEqual({ effects: 2, records: 2 });
    });

    it('takes effect twice under two keys, though its body is the same', async () => {
      const one = await post('/orders/1/items', 'k1', { body: { itemId: 'a' } });
      const two = await post('/orders/1/items', 'k2', { body: { itemId: 'a' } });
      expect(await counts()).toEqual({ effects: 2, records: 2 });
      expect([one.status, two.status]).toEqual([201, 201]);
      expect(one.text).not.toBe(two.text);
    });

    it('is replayed although its handler changed the body it was given', async () => {
      const body = { items: ['a', 'b'], nested: {} };
      const first = await post('/orders/mutating', 'k', { body });
      const again = await post('/orders/mutating', 'k', { body });
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expect(first.status).toBe(201);
      expectReplay(again, first);
      // What the handler made of the body is not what a client has to repeat.
      expectProblem(
        await post('/orders/mutating', 'k', { body: { items: [], nested: { total: 99 } } }),
        422,
        'IDEMPOTENCY_KEY_REUSED',
      );
    });
  });

  describe('what counts of a body', () => {
    it('is what the route chooses', async () => {
      const first = await post('/orders/by-item', 'k', { body: { itemId: 'a', sentAt: 1 } });
      const again = await post('/orders/by-item', 'k', { body: { sentAt: 2, itemId: 'a' } });
      const reused = await post('/orders/by-item', 'k', { body: { itemId: 'b', sentAt: 1 } });
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expectReplay(again, first);
      expectProblem(reused, 422, 'IDEMPOTENCY_KEY_REUSED');
    });

    it('cannot be a promise, which would be equal to every other', async () => {
      const answer = await post('/orders/promised', 'k');
      expect(await counts()).toEqual({ effects: 0, records: 0 });
      expect(answer.status).toBe(500);
    });

    it.each([
      ['text/xml', '<order/>'],
      ['application/xml', '<order/>'],
      ['application/octet-stream', Buffer.from([1, 2, 3])],
      [
        'multipart/form-data; boundary=b',
        '--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n',
      ],
    ])('cannot be told when no parser took it: %s is answered 415', async (type, body) => {
      const answer = await post('/orders/1/items', 'k', { body, headers: { 'content-type': type } });
      expect(await counts()).toEqual({ effects: 0, records: 0 });
      // Fastify refuses it by itself, before the library is asked.
      expect(answer.status).toBe(415);
      if (platform === 'express') expectProblem(answer, 415, 'IDEMPOTENCY_BODY_NOT_PARSED');
    });

    it('cannot be told when no parser took it, chunked as well', async () => {
      const answer = await post('/orders/1/items', 'k', {
        body: '<order/>',
        headers: { 'content-type': 'text/xml', 'transfer-encoding': 'chunked', 'content-length': [] },
      });
      expect(await counts()).toEqual({ effects: 0, records: 0 });
      expect(answer.status).toBe(415);
    });

    it('may be nothing', async () => {
      const first = await send(`${app.url}/orders/1/items`, { headers: { 'Idempotency-Key': 'k' } });
      const again = await send(`${app.url}/orders/1/items`, { headers: { 'Idempotency-Key': 'k' } });
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expect(first.status).toBe(201);
      expectReplay(again, first);
      expectProblem(await post('/orders/1/items', 'k', { body: {} }), 422, 'IDEMPOTENCY_KEY_REUSED');
    });

    it.each([1_001, 5_000, 40_000])('is answered 4xx when it is %d levels deep', async (depth) => {
      const body = '['.repeat(depth) + ']'.repeat(depth);
      const answer = await post('/orders/1/items', 'k', {
        body,
        headers: { 'content-type': 'application/json' },
      });
      expect(await counts()).toEqual({ effects: 0, records: 0 });
      expect(answer.status).toBeGreaterThanOrEqual(400);
      expect(answer.status).toBeLessThan(500);
      // The process lives.
      expect((await post('/orders/1/items', 'k')).status).toBe(201);
    });

    it('is compared down to 1,000 levels', async () => {
      const nested = (leaf: string): RequestOptions => ({
        body: '['.repeat(1_000) + leaf + ']'.repeat(1_000),
        headers: { 'content-type': 'application/json' },
      });
      const deepest = (leaf: string): RequestOptions => ({
        body: '['.repeat(999) + leaf + ']'.repeat(999),
        headers: { 'content-type': 'application/json' },
      });
      const first = await post('/orders/1/items', 'k', deepest('1'));
      expect(first.status).toBe(201);
      expectReplay(await post('/orders/1/items', 'k', deepest('1')), first);
      expectProblem(await post('/orders/1/items', 'k', deepest('2')), 422, 'IDEMPOTENCY_KEY_REUSED');
      expect((await post('/orders/1/items', 'other', nested('1'))).status).toBeGreaterThanOrEqual(400);
      expect(await counts()).toEqual({ effects: 1, records: 1 });
    });

    it('holds a member called __proto__ like any other', async () => {
      const json = { 'content-type': 'application/json' };
      const first = await post('/orders/1/items', 'k', { body: '{"__proto__":{"a":1}}', headers: json });
      const reused = await post('/orders/1/items', 'k', { body: '{"__proto__":{"a":2}}', headers: json });
      if (platform === 'fastify') {
        // Fastify refuses such a body by itself.
        expect(await counts()).toEqual({ effects: 0, records: 0 });
        expect([first.status, reused.status]).toEqual([400, 400]);
      } else {
        expect(await counts()).toEqual({ effects: 1, records: 1 });
        expectProblem(reused, 422, 'IDEMPOTENCY_KEY_REUSED');
      }
    });

    it('is compared as a form too', async () => {
      const form = (body: string): Promise<Answer> =>
        post('/orders/1/items', 'k', {
          body,
          headers: { 'content-type': 'application/x-www-form-urlencoded' },
        });
      const first = await form('a=1&b=2');
      const again = await form('b=2&a=1');
      const reused = await form('a=1&b=3');
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expect(first.status).toBe(201);
      expectReplay(again, first);
      expectProblem(reused, 422, 'IDEMPOTENCY_KEY_REUSED');
    });
  });
});
