import { randomBytes, randomUUID } from 'node:crypto';
import { ConflictException } from '@nestjs/common';
import {
  CopyNotErasedError,
  IdempotencyAdmin,
  type IdempotencyEvent,
  IdempotencyEvents,
  type IdempotencyModuleOptions,
  Idempotent,
} from 'nestjs-pg-idempotency';
import { memoryCache } from 'nestjs-pg-idempotency/memory';
import { redisCache } from 'nestjs-pg-idempotency/redis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { TestApp } from './support/app.js';
import { type CartProcess, startCart } from './support/cart-process.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { type Answer, send } from './support/http.js';
import { describeWith } from './support/servers.js';
import {
  openStage,
  outline,
  problemCode,
  type Script,
  scripted,
  Stage,
  type StagedApp,
} from './support/stage.js';
import { startWireCounter, type WireCounter } from '../bench/wire/wire-counter.js';
import { askLine, startRedis, type RedisServer } from './support/topology.js';
import { deferred, until } from './support/until.js';

const by = { actor: 'ada', reason: 'asked for, ticket 7' };
const scope = false;

/** As the sample has it: the default. */
const HINT_MS = 2_000;

/** Two instances that share a Redis; the second keeps nothing in its own memory, so that what it has is from there. */
describeWith(['redis-server'], 'a replay cache', () => {
  let redis: RedisServer;
  let counter: WireCounter;
  let here: StagedApp;
  let there: TestApp;
  let events: IdempotencyEvent[];

  beforeAll(async () => {
    redis = await startRedis();
    const keys = [randomBytes(32)];
    const replayCache = (memory: boolean): IdempotencyModuleOptions => ({
      replayCache: {
        ...(memory ? { memory: memoryCache() } : {}),
        shared: redisCache({ url: redis.url }),
        keys,
      },
    });
    here = await openStage({
      idempotency: replayCache(true),
      controllers: [
        scripted('tx', Idempotent({ scope })),
        scripted('lease', Idempotent({ scope, mode: 'lease' })),
        scripted('brief', Idempotent({ scope, ttl: '1s', maxRuntime: 500 })),
      ],
      through: async (url) => {
        counter = await startWireCounter(url);
        return counter.url;
      },
    });
    there = await here.twin(replayCache(false));
    events = [];
    for (const { app } of [here, there])
      app.get(IdempotencyEvents).events.subscribe((event) => events.push(event));
  });
  afterAll(async () => {
    await there.close();
    await here.close();
    await counter.stop();
    await redis.stop();
  });
  beforeEach(() => events.splice(0));
  afterEach(() => here.quiet());

  const ask = (
    app: { readonly url: string },
    path: string,
    label: string,
    body: object = { label },
  ): Promise<Answer> => send(`${app.url}/${path}/${label}`, { headers: { 'idempotency-key': label }, body });
  /** A label with the same script in both instances. */
  const play = (script: Script): string => {
    const label = here.play(script);
    there.app.get(Stage).play(label, script);
    return label;
  };
  const writes: Script = async ({ write, run, reply }) => {
    await write();
    reply.header('location', '/ledger/1');
    return { run };
  };
  /** An instance that has not heard from PostgreSQL lately does not know what time it is there, and asks it first. */
  const hear = async (): Promise<void> => {
    for (const app of [here, there]) await ask(app, 'tx', play(writes));
    await until('the outcomes are in the cache', async () => (await inRedis()) >= 2);
    await askLine(redis.port, 'FLUSHALL');
    events.splice(0);
  };
  const inRedis = async (): Promise<number> => Number((await askLine(redis.port, 'DBSIZE')).slice(1));
  /** Waits for what is written beside the answer. */
  const shared = (count: number): Promise<unknown> =>
    until('the shared cache has it', async () => (await inRedis()) === count);
  const sources = (): unknown[] =>
    events.flatMap((event) => (event.type === 'replayed' ? [event.source] : []));
  /** How many statements went to PostgreSQL meanwhile. */
  const statementsOf = async (work: () => Promise<unknown>): Promise<number> => {
    await here.quiet();
    const before = counter.counts().statements;
    await work();
    return counter.counts().statements - before;
  };

  describe.each(['tx', 'lease'])('for handlers of %s', (path) => {
    beforeEach(hear);

    it('answers repetitions in every instance with the same bytes, and asks PostgreSQL nothing', async () => {
      const label = play(writes);
      const first = await ask(here, path, label);
      await shared(1);
      let answers: Answer[] = [];
      const statements = await statementsOf(async () => {
        answers = [
          await ask(here, path, label),
          await ask(there, path, label),
          await ask(there, path, label),
        ];
      });
      expect(await here.effects(label)).toBe(1);
      expect(statements).toBe(0);
      expect(sources()).toEqual(['memory', 'shared', 'shared']);
      expect(first.status).toBe(201);
      for (const answer of answers) {
        expect(outline(answer)).toEqual({ status: 200, text: first.text });
        expect(answer.headers.location).toBe(first.headers.location);
        expect(answer.headers['content-type']).toBe(first.headers['content-type']);
      }
    });

    it('replays a final error, whose handler had no effect', async () => {
      const label = play(async ({ write }) => {
        await write();
        throw new ConflictException({ reason: 'sold out' });
      });
      const first = await ask(here, path, label);
      await shared(1);
      const answers = [await ask(here, path, label), await ask(there, path, label)];
      expect(sources()).toEqual(['memory', 'shared']);
      for (const answer of answers) expect(outline(answer)).toEqual(outline(first));
    });

    it('answers another payload 422, which the database decides', async () => {
      const label = play(writes);
      await ask(here, path, label);
      await shared(1);
      for (const app of [here, there]) {
        const other = await ask(app, path, label, { label, amount: 2 });
        expect([other.status, problemCode(other)]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED']);
      }
      expect(await here.effects(label)).toBe(1);
      expect(sources()).toEqual([]);
    });

    it('keeps nothing of an attempt that left no outcome: the retry runs', async () => {
      const label = play(async ({ write, run }) => {
        if (run === 1) throw new Error('the first time');
        await write();
        return { run };
      });
      expect((await ask(here, path, label)).status).toBe(500);
      const retry = await ask(here, path, label);
      expect(await here.effects(label)).toBe(1);
      expect(retry.status).toBe(201);
    });

    it('refuses duplicates in other instances without PostgreSQL, and answers them when the outcome is there', async () => {
      const [entered, gate] = [deferred(), deferred()];
      const label = play(async ({ write, run }) => {
        await write();
        entered.resolve();
        await gate.promise;
        return { run };
      });
      const first = ask(here, path, label);
      await entered.promise;
      await shared(1);
      const before = counter.counts().statements;
      const refused = await Promise.all(Array.from({ length: 50 }, () => ask(there, path, label)));
      expect(counter.counts().statements - before).toBe(0);
      expect(new Set(refused.map((answer) => `${answer.status} ${String(problemCode(answer))}`))).toEqual(
        new Set(['409 IDEMPOTENCY_KEY_IN_USE']),
      );
      gate.resolve();
      const { status, text } = await first;
      const replay = await until('it is replayed', async () => {
        const answer = await ask(there, path, label);
        return answer.status === 409 ? undefined : answer;
      });
      expect(await here.effects(label)).toBe(1);
      expect(status).toBe(201);
      expect(outline(replay)).toEqual({ status: 200, text });
    });

    it('is no reason to replay when it holds the answer of another key, or garbage', async () => {
      const [one, other] = [play(writes), play(writes)];
      await ask(here, path, one);
      await shared(1);
      const keyOfOne = (await askLine(redis.port, 'RANDOMKEY')).split('\r\n')[1] as string;
      await ask(here, path, other);
      await shared(2);
      const keyOfOther = (await askLine(redis.port, 'KEYS *'))
        .split('\r\n')
        .find((line) => line.startsWith('idem1') && line !== keyOfOne) as string;
      await askLine(redis.port, `COPY ${keyOfOne} ${keyOfOther} REPLACE`);
      await askLine(redis.port, `SET ${keyOfOne} garbage`);
      for (const label of [one, other]) {
        const { text } = await ask(here, path, label);
        expect(outline(await ask(there, path, label))).toEqual({ status: 200, text });
        expect(await here.effects(label)).toBe(1);
      }
      expect(sources()).toEqual(['memory', 'record', 'memory', 'record']);
      expect(events.filter(({ type }) => type === 'cache-entry-refused')).toHaveLength(2);
    });

    it('is filled again after it was flushed', async () => {
      const label = play(writes);
      await ask(here, path, label);
      await shared(1);
      await askLine(redis.port, 'FLUSHALL');
      await ask(there, path, label);
      await shared(1);
      await ask(there, path, label);
      expect(sources()).toEqual(['record', 'shared']);
    });
  });

  it('keeps an outcome no longer than its record', async () => {
    const label = play(writes);
    await ask(here, 'brief', label);
    await ask(there, 'brief', label);
    const again = await until('the key is new', async () => {
      const answer = await ask(here, 'brief', label);
      return answer.status === 201 ? answer : undefined;
    });
    // Until the record's time was over every answer was the first one.
    expect(await here.effects(label)).toBe(2);
    expect(again.json()).toEqual({ run: 2 });
  });

  describe('of which an answer is erased', () => {
    const admin = (): IdempotencyAdmin => here.app.get(IdempotencyAdmin);
    const stored = async (label: string): Promise<unknown[]> =>
      here.rows('SELECT response_body AS body FROM idempotency_keys WHERE key_hash = $1', [
        Buffer.from((await admin().inspect({ key: label }))?.keyHash ?? '', 'hex'),
      ]);

    it('replays it nowhere any more', async () => {
      await hear();
      const label = play(writes);
      await ask(here, 'tx', label);
      await shared(1);
      await admin().erase({ key: label }, by);
      for (const app of [here, there, here, there]) {
        const answer = await ask(app, 'tx', label);
        expect([answer.status, problemCode(answer)]).toEqual([500, 'IDEMPOTENCY_RESPONSE_NOT_STORED']);
      }
      expect(await here.effects(label)).toBe(1);
    });

    it('tells when the shared cache may still hold it, until that has answered', async () => {
      await hear();
      const label = play(writes);
      await ask(here, 'tx', label);
      await shared(1);
      await redis.pause();
      try {
        await expect(admin().erase({ key: label }, by)).rejects.toThrow(CopyNotErasedError);
      } finally {
        redis.resume();
      }
      expect(await stored(label)).toEqual([{ body: null }]);
      await until('the copy is erased', () =>
        admin()
          .erase({ key: label }, by)
          .then(
            () => true,
            () => undefined,
          ),
      );
      const answer = await ask(there, 'tx', label);
      expect([answer.status, problemCode(answer)]).toEqual([500, 'IDEMPOTENCY_RESPONSE_NOT_STORED']);
    });
  });
});

describeWith(['redis-server'], 'the hint of a process that was killed', () => {
  let database: TestDatabase;
  let redis: RedisServer;
  let carts: [CartProcess, CartProcess];

  beforeAll(async () => {
    [database, redis] = await Promise.all([createDatabase(), startRedis()]);
    const REPLAY_CACHE_KEY = randomBytes(32).toString('hex');
    const env = { CONFIRMATIONS: 'off', REPLAY_CACHE: redis.url, REPLAY_CACHE_KEY };
    const start = (): Promise<CartProcess> => startCart({ databaseUrl: database.url, env });
    carts = await Promise.all([start(), start()]);
  });
  afterAll(async () => {
    await Promise.all(carts.map((cart) => cart.end()));
    await Promise.all([database.drop(), redis.stop()]);
  });

  it('holds the retry up until its life is over, and no longer', async () => {
    const [here, there] = carts;
    const key = randomUUID();
    const add = (cart: CartProcess, delayMs: number): Promise<Answer> =>
      send(`${cart.url}/carts/user-${key}/items`, {
        headers: { 'idempotency-key': key, 'x-demo-delay-ms': String(delayMs) },
        body: { itemId: 'book', quantity: 3 },
      });
    const quantities = (): Promise<unknown[]> =>
      database.rows('SELECT quantity FROM cart_items WHERE user_id = $1', [`user-${key}`]);
    // So that each knows what time it is in the database.
    await Promise.all(
      carts.map(({ url }) =>
        send(`${url}/carts/warm/items`, {
          headers: { 'idempotency-key': randomUUID() },
          body: { itemId: 'book', quantity: 1 },
        }),
      ),
    );
    await until('its outcomes are shared', async () =>
      (await askLine(redis.port, 'DBSIZE')).startsWith(':2'),
    );
    await askLine(redis.port, 'FLUSHALL');

    const lost = add(here, 5_000).catch(() => 'no answer');
    await until('there is a hint', async () => (await askLine(redis.port, 'DBSIZE')).startsWith(':1'));
    await here.end('SIGKILL');
    expect(await lost).toBe('no answer');
    const began = performance.now();
    let refused = 0;
    const retry = await until('the retry runs', async () => {
      const answer = await add(there, 0);
      if (answer.status !== 409) return answer;
      refused++;
      return undefined;
    });
    const waitedMs = performance.now() - began;
    expect(await quantities()).toEqual([{ quantity: 3 }]);
    expect(retry.status).toBe(201);
    console.log(
      `a hint of ${HINT_MS} ms: ${refused} retries refused in ${Math.round(waitedMs)} ms, and then it ran`,
    );
    expect(refused).toBeGreaterThan(0);
    expect(waitedMs).toBeLessThan(HINT_MS + 1_000);
  });
});
