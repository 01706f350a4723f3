import { Controller, Inject, type INestApplication, Param, Post, VersioningType } from '@nestjs/common';
import { Idempotent } from 'nestjs-pg-idempotency';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PLATFORMS, type TestApp } from './support/app.js';
import { type Answer, send } from './support/http.js';
import {
  counts,
  database,
  Effects,
  expectProblem,
  expectReplay,
  PerRequestController,
  post,
  start,
  useIdentity,
} from './support/identity.js';

@Controller({ path: 'versioned', version: ['1', '2'] })
class VersionedController {
  constructor(@Inject(Effects) private readonly effects: Effects) {}

  @Post(':id')
  @Idempotent()
  add(@Param('id') id: string): Promise<object> {
    return this.effects.add(id);
  }
}

describe.each(PLATFORMS)('identity of a request on %s', (platform) => {
  useIdentity(platform);

  describe('a decorated class', () => {
    it.each(['POST', 'PATCH'])('is protected for %s', async (method) => {
      const missing = await post('/class', undefined, { method });
      expect(await counts()).toEqual({ effects: 0, records: 0 });
      expectProblem(missing, 400, 'IDEMPOTENCY_KEY_REQUIRED');
      const first = await post('/class', 'k', { method });
      const again = await post('/class', 'k', { method });
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expect(first.headers['idempotent-replayed']).toBe('false');
      expectReplay(again, first);
    });

    it.each(['GET', 'PUT', 'DELETE'])('is left alone for %s, with a key and without', async (method) => {
      const body = method === 'GET' ? undefined : {};
      const answers = [
        await post('/class', undefined, { method, body }),
        await post('/class', 'k', { method, body }),
        await post('/class', 'k', { method, body }),
        await post('/class', '', { method, body }),
      ];
      expect(await counts()).toEqual({ effects: 4, records: 0 });
      for (const answer of answers) {
        expect(answer.status).toBe(200);
        expect(answer.headers['idempotent-replayed']).toBeUndefined();
      }
    });

    it('tells methods of one key and path apart', async () => {
      const posted = await post('/class', 'k');
      const patched = await post('/class', 'k', { method: 'PATCH' });
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expect(posted.status).toBe(201);
      expectProblem(patched, 422, 'IDEMPOTENCY_KEY_REUSED');
    });

    it('looks at the method of each request to an @All() route', async () => {
      await post('/class/all', undefined, { method: 'PUT' });
      expect(await counts()).toEqual({ effects: 1, records: 0 });
      const first = await post('/class/all', 'k');
      expectReplay(await post('/class/all', 'k'), first);
      expect(await counts()).toEqual({ effects: 2, records: 1 });
    });
  });

  describe('a controller that inherits', () => {
    it.each(['first', 'second'])('protects the inherited method of /%s', async (name) => {
      const first = await post(`/${name}/inherited`, 'k');
      const again = await post(`/${name}/inherited`, 'k');
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expect(first.json()).toMatchObject({
        note: `inherited by ${name === 'first' ? 'First' : 'Second'}Controller`,
      });
      expectReplay(again, first);
    });

    it.each(['first', 'second'])(
      'protects the overriding method of /%s, and calls the overridden one once',
      async (name) => {
        const first = await post(`/${name}/overridden`, 'k');
        const again = await post(`/${name}/overridden`, 'k');
        expect(await counts()).toEqual({ effects: 1, records: 1 });
        expect(first.json()).toMatchObject({ [name]: true, note: 'base' });
        expectReplay(again, first);
      },
    );

    it('takes the decorator of its own class for methods without one', async () => {
      await post('/first/undecorated', 'k');
      await post('/first/undecorated', 'k');
      expect(await counts()).toEqual({ effects: 2, records: 0 });
      await post('/second/undecorated', 'k');
      await post('/second/undecorated', 'k');
      expect(await counts()).toEqual({ effects: 3, records: 1 });
    });
  });

  it('is the same for a controller that is made anew for each request', async () => {
    const before = PerRequestController.made;
    const headers = { 'x-note': 'from the request' };
    const first = await post('/per-request', 'k', { headers });
    const again = await post('/per-request', 'k', { headers });
    expect(await counts()).toEqual({ effects: 1, records: 1 });
    expect(PerRequestController.made - before).toBe(2);
    expect(first.json()).toMatchObject({ note: 'from the request' });
    expectReplay(again, first);
  });

  describe('behind a global prefix and versions in the path', () => {
    let versioned: TestApp;
    beforeAll(async () => {
      versioned = await start({
        controllers: [VersionedController],
        prepare: (nest: INestApplication) => {
          nest.setGlobalPrefix('api');
          nest.enableVersioning({ type: VersioningType.URI });
        },
      });
    });
    afterAll(() => versioned?.close());

    it('protects the route, whose operation is its whole pattern', async () => {
      const add = (path: string): Promise<Answer> =>
        send(`${versioned.url}${path}`, { body: {}, headers: { 'Idempotency-Key': 'k' } });
      const first = await add('/api/v1/versioned/7');
      const again = await add('/api/v1/versioned/7');
      const reused = await add('/api/v2/versioned/7');
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expect(await database.rows('SELECT operation FROM idempotency_keys')).toEqual([
        { operation: 'POST /api/v1/versioned/:id' },
      ]);
      expect(first.status).toBe(201);
      expectReplay(again, first);
      expectProblem(reused, 422, 'IDEMPOTENCY_KEY_REUSED');
    });
  });
});
