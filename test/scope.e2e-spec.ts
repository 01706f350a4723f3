import { randomUUID } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { type CanActivate, type ExecutionContext, UseGuards } from '@nestjs/common';
import { Idempotent } from 'nestjs-pg-idempotency';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { PLATFORMS } from './support/app.js';
import type { Answer } from './support/http.js';
import { openStage, type Scene, scripted, type StagedApp } from './support/stage.js';
import { deferred } from './support/until.js';

/** Signs in whoever `x-user` names, as JSON: what a guard of an application would take from a token. */
class SignIn implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<{ headers: IncomingHttpHeaders; user?: unknown }>();
    const user = request.headers['x-user'];
    if (typeof user === 'string') request.user = JSON.parse(user);
    return true;
  }
}

const ALICE = { id: 'alice' };
const BOB = { id: 'bob' };

describe.each(PLATFORMS)('the scope of a key on %s', (platform) => {
  let app: StagedApp;
  const environment = process.env['NODE_ENV'];

  beforeAll(async () => {
    app = await openStage({
      platform,
      controllers: [
        scripted('orders', UseGuards(SignIn), Idempotent()),
        scripted(
          'tenants',
          Idempotent({ scope: ({ headers }) => headers['x-tenant'] as string | undefined }),
        ),
        scripted('shared', UseGuards(SignIn), Idempotent({ scope: false })),
      ],
    });
  });
  afterEach(() => {
    process.env['NODE_ENV'] = environment;
  });
  afterAll(() => app.close());

  interface Caller {
    readonly user?: unknown;
    readonly tenant?: string;
    readonly body?: unknown;
  }
  const post = (path: string, label: string, key: string, caller: Caller = {}): Promise<Answer> =>
    app.post(`${path}/${label}`, {
      key,
      body: caller.body ?? { label },
      headers: {
        ...(caller.user === undefined ? {} : { 'x-user': JSON.stringify(caller.user) }),
        ...(caller.tenant === undefined ? {} : { 'x-tenant': caller.tenant }),
      },
    });
  /** A handler whose answer tells the run that gave it. */
  const secretive = (): { label: string; key: string } => {
    const label = randomUUID();
    app.stage.play(label, async ({ write, run, attempt }: Scene) => {
      await write(attempt.scope);
      return { secret: `${label}-${run}`, of: attempt.scope };
    });
    return { label, key: randomUUID() };
  };

  it('gives another user with the same key a run of their own, and no byte of the first answer', async () => {
    const { label, key } = secretive();
    const alice = await post('orders', label, key, { user: ALICE });
    const bob = await post('orders', label, key, { user: BOB });
    const [aliceAgain, bobAgain] = [
      await post('orders', label, key, { user: ALICE }),
      await post('orders', label, key, { user: BOB }),
    ];
    expect(await app.notes(label)).toEqual(['alice', 'bob']);
    expect((await app.records(key)).map(({ scope, status }) => [scope, status])).toEqual([
      ['alice', 'completed'],
      ['bob', 'completed'],
    ]);
    expect([alice, bob, aliceAgain, bobAgain].map(({ status }) => status)).toEqual([201, 201, 200, 200]);
    for (const { text, headers } of [bob, bobAgain]) {
      expect(text).toContain(`${label}-2`);
      expect(`${text}${JSON.stringify(headers)}`).not.toMatch(new RegExp(`alice|${label}-1`));
    }
    expect(aliceAgain.body.equals(alice.body)).toBe(true);
  });

  it('tells another user nothing of a key in flight: no 409, no 422', async () => {
    const label = randomUUID();
    const key = randomUUID();
    const inside = deferred();
    const leave = deferred();
    app.stage.play(label, async ({ write, attempt }) => {
      await write(attempt.scope);
      if (attempt.scope === 'alice') {
        inside.resolve();
        await leave.promise;
      }
      return { of: attempt.scope };
    });
    const alice = post('orders', label, key, { user: ALICE });
    await inside.promise;
    const same = await post('orders', label, key, { user: BOB });
    const other = await post('orders', label, key, { user: { id: 'carol' }, body: { another: 'payload' } });
    leave.resolve();
    expect((await alice).status).toBe(201);
    expect((await app.notes(label)).toSorted()).toEqual(['alice', 'bob', 'carol']);
    expect([same.status, other.status]).toEqual([201, 201]);
  });

  it.each([
    { user: { id: 7 }, scope: '7' },
    { user: { sub: 'subject' }, scope: 'subject' },
    { user: { id: 'id', sub: 'subject' }, scope: 'id' },
    { user: { id: null, sub: 'subject' }, scope: 'subject' },
    { user: undefined, scope: '' },
  ])('is $scope for the user $user', async ({ user, scope }) => {
    const { label, key } = secretive();
    await post('orders', label, key, { user });
    expect((await app.records(key)).map((record) => record.scope)).toEqual([scope]);
  });

  it('does not run together with the key', async () => {
    const { label } = secretive();
    await post('orders', label, 'c', { user: { id: 'ab' } });
    await post('orders', label, 'bc', { user: { id: 'a' } });
    await post('orders', label, 'abc');
    expect(await app.notes(label)).toEqual(['ab', 'a', '']);
  });

  it('is what the route says', async () => {
    const { label, key } = secretive();
    await post('tenants', label, key, { tenant: 'blue' });
    await post('tenants', label, key, { tenant: 'green' });
    const replay = await post('tenants', label, key, { tenant: 'blue' });
    expect(await app.notes(label)).toEqual(['blue', 'green']);
    expect(replay.json()).toEqual({ secret: `${label}-1`, of: 'blue' });
  });

  it('is one for all callers where the route says false', async () => {
    const { label, key } = secretive();
    await post('shared', label, key, { user: ALICE });
    expect((await post('shared', label, key, { user: BOB })).headers['idempotent-replayed']).toBe('true');
    expect(await app.notes(label)).toEqual(['']);
  });

  describe('that does not resolve', () => {
    const UNRESOLVED: readonly [what: string, path: string, caller: Caller][] = [
      ['a user without id and sub', 'orders', { user: { name: 'alice' } }],
      ['a user whose id is an object', 'orders', { user: { id: { $oid: '1' } } }],
      ['a user whose id is empty', 'orders', { user: { id: '' } }],
      ['a scope function that finds nothing', 'tenants', {}],
      ['a scope function that finds an empty text', 'tenants', { tenant: '' }],
    ];

    it.each(UNRESOLVED)('is refused in production: %s', async (_, path, caller) => {
      process.env['NODE_ENV'] = 'production';
      const { label, key } = secretive();
      const answer = await post(path, label, key, caller);
      expect(app.stage.runs(label)).toBe(0);
      expect(await app.records(key)).toEqual([]);
      expect(answer.status).toBe(500);
      expect(answer.json()).toMatchObject({ code: 'IDEMPOTENCY_SCOPE_UNRESOLVED' });
    });

    it.each(UNRESOLVED)('is the shared one elsewhere: %s', async (_, path, caller) => {
      const { label, key } = secretive();
      expect((await post(path, label, key, caller)).status).toBe(201);
      expect((await app.records(key)).map(({ scope }) => scope)).toEqual(['']);
    });
  });
});
