import { type RedisCacheOptions, redisCache } from 'nestjs-pg-idempotency/redis';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import type { SharedCache } from '../libs/idempotency/src/cache/shared-cache.js';
import { answers, closing, fresh, read, settled, write } from './support/cache-questions.js';
import { logLines } from './support/log-lines.js';
import { exitAfter } from './support/redis-process.js';
import { describeWith, freePorts } from './support/servers.js';
import { itKeepsTheContract } from './support/shared-cache-contract.js';
import { askLine, startRedis, type RedisServer } from './support/topology.js';
import { until } from './support/until.js';

const AWAY =
  /^warn: the Redis at 127\.0\.0\.1:\d+ cannot be reached: .+; requests are answered from PostgreSQL$/;
const BACK = /^log: the Redis at 127\.0\.0\.1:\d+ is back$/;

let lines: string[];
beforeEach(() => (lines = logLines()));
afterEach(() => vi.restoreAllMocks());

/** A cache that has begun to connect, and is closed with the test. */
function open(options: RedisCacheOptions): SharedCache {
  const cache = redisCache(options);
  onTestFinished(() => cache.close());
  cache.start();
  return cache;
}

async function start(options: Parameters<typeof startRedis>[0] = {}): Promise<RedisServer> {
  const server = await startRedis(options);
  onTestFinished(() => server.stop());
  return server;
}

describeWith(['redis-server'], 'a cache in one Redis', () => {
  itKeepsTheContract('on a server of its own', async () => {
    const server = await startRedis();
    return { cache: redisCache({ url: server.url }), close: () => server.stop() };
  });

  it('refuses at once while nobody listens, keeps nothing for later, and works when the server comes up', async () => {
    const [port] = (await freePorts(1)) as [number];
    const cache = open({ url: `redis://127.0.0.1:${port}` });
    const begun = performance.now();
    const late = fresh();
    for (let round = 0; round < 50; round += 1) {
      await Promise.all(
        Array.from({ length: 100 }, () => expect(write(cache, late, 'late')).rejects.toThrow()),
      );
    }
    expect((performance.now() - begun) / 50).toBeLessThan(100);
    await until('it is told', () => lines.length > 0);
    expect(lines).toEqual([expect.stringMatching(AWAY)]);
    expect(lines[0]).toContain('ECONNREFUSED');

    const server = await start({ port });
    await answers(cache);
    expect(await read(cache, late)).toBeUndefined();
    expect(await askLine(server.port, 'INFO commandstats')).not.toContain('cmdstat_set:');
    expect(lines).toEqual([expect.stringMatching(AWAY), expect.stringMatching(BACK)]);
  });

  it('gives up what a frozen server does not answer, holds no more of it, and goes on when it thaws', async () => {
    const server = await start();
    const cache = open({ url: server.url, commandTimeout: '300ms' });
    await answers(cache);
    const key = fresh();
    await write(cache, key, 'before');
    await server.pause();
    onTestFinished(() => server.resume());

    // A steady stream of questions, as an application asks them.
    const begun = performance.now();
    const times: number[] = [];
    let underWay = 0;
    let most = 0;
    const asked: Promise<void>[] = [];
    for (let round = 0; round < 200; round += 1) {
      const at = performance.now();
      underWay += 1;
      most = Math.max(most, underWay);
      asked.push(
        cache.get(key).then(
          () => expect.unreachable('a frozen server answers nothing'),
          () => {
            underWay -= 1;
            times.push(performance.now() - at);
          },
        ),
      );
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await Promise.all(asked);
    expect(performance.now() - begun).toBeGreaterThan(1_500);
    expect(Math.max(...times)).toBeLessThan(1_000);
    // Only what was sent before the connection was given up has waited; the rest was refused at once.
    expect(most).toBeLessThan(60);
    expect(times.filter((time) => time < 50).length).toBeGreaterThan(120);
    expect(lines).toEqual([expect.stringMatching(/cannot be reached: no answer within 300 ms;/)]);

    server.resume();
    await answers(cache);
    expect(await read(cache, key)).toBe('before');
    expect(lines.slice(1)).toEqual([expect.stringMatching(BACK)]);
  });

  it('keeps its connection while anything is answered, and gives it up when nothing is', async () => {
    const server = await start();
    const cache = open({ url: server.url, commandTimeout: '200ms' });
    await answers(cache);
    const connections = async (): Promise<number> =>
      Number(/total_connections_received:(\d+)/.exec(await askLine(server.port, 'INFO stats'))?.[1]);
    const before = await connections();
    await askLine(server.port, 'CLIENT PAUSE 300 WRITE');
    const asked = [cache.get(fresh()), write(cache, fresh(), 'x'), cache.get(fresh())].map(settled);
    expect(await Promise.all(asked)).toEqual(['fulfilled', 'rejected', 'rejected']);
    // Those by which the pause and this number were asked for, and none of the cache.
    expect((await connections()) - before).toBe(2);
    expect(lines).toEqual([]);

    await answers(cache);
    await askLine(server.port, 'CLIENT PAUSE 300 WRITE');
    expect(await settled(write(cache, fresh(), 'x'))).toBe('rejected');
    await answers(cache);
    expect((await connections()) - before).toBe(5);
    expect(lines).toEqual([expect.stringMatching(/no answer within 200 ms/), expect.stringMatching(BACK)]);
  });

  it('rejects what is under way when the server is killed, and is empty and works when it is back', async () => {
    const server = await start();
    const cache = open({ url: server.url });
    await answers(cache);
    const key = fresh();
    await write(cache, key, 'before');
    await server.pause();
    const underWay = Array.from({ length: 20 }, () => settled(write(cache, fresh(), 'x')));
    const begun = performance.now();
    await server.kill();
    expect(new Set(await Promise.all(underWay))).toEqual(new Set(['rejected']));
    expect(performance.now() - begun).toBeLessThan(900);
    await expect(cache.get(key)).rejects.toThrow();
    await until('it is told', () => lines.length > 0);

    await server.restart();
    await answers(cache);
    expect(await read(cache, key)).toBeUndefined();
    // Nothing was sent again.
    expect(await askLine(server.port, 'DBSIZE')).toBe(':0\r\n');
    await write(cache, key, 'after');
    expect(await read(cache, key)).toBe('after');
    expect(lines).toEqual([expect.stringMatching(AWAY), expect.stringMatching(BACK)]);
  });

  it('says nothing of a connection that is closed and there again at once', async () => {
    const server = await start();
    const cache = open({ url: server.url });
    await answers(cache);
    expect(await askLine(server.port, 'CLIENT KILL TYPE normal')).toMatch(/^:[1-9]/);
    await until('it is connected again', async () =>
      (await askLine(server.port, 'CLIENT LIST')).includes('cmd=info'),
    );
    await answers(cache);
    expect(lines).toEqual([]);
  });

  it('finds nothing after FLUSHALL, and goes on', async () => {
    const server = await start();
    const cache = open({ url: server.url });
    await answers(cache);
    const key = fresh();
    await write(cache, key, 'x');
    await askLine(server.port, 'FLUSHALL');
    expect(await read(cache, key)).toBeUndefined();
    await write(cache, key, 'y');
    expect(await read(cache, key)).toBe('y');
  });

  it('loses the oldest values to new ones when the memory is full, and no write fails', async () => {
    const server = await start({ args: ['--maxmemory', '4mb'] });
    const cache = open({ url: server.url });
    await answers(cache);
    const value = Buffer.alloc(20_000, 'x');
    const keys = Array.from({ length: 600 }, fresh);
    for (const key of keys) await cache.set(key, value, { ttlMs: 60_000 });
    const found = await Promise.all(keys.map((key) => cache.get(key)));
    const kept = found.filter((bytes) => bytes !== undefined);
    expect(kept.length).toBeGreaterThan(20);
    expect(kept.length).toBeLessThan(400);
    expect(kept.every((bytes) => Buffer.from(bytes).equals(value))).toBe(true);
    expect(await askLine(server.port, 'INFO stats')).not.toContain('evicted_keys:0\r\n');
  });

  it('rejects writes when the memory is full and nothing may be evicted, and answers all the same', async () => {
    const server = await start({ args: ['--maxmemory-policy', 'noeviction'] });
    const cache = open({ url: server.url });
    await answers(cache);
    const key = fresh();
    await write(cache, key, 'x');
    await askLine(server.port, 'CONFIG SET maxmemory 1');
    const error = await write(cache, fresh(), 'y').then(
      () => expect.unreachable('it was kept'),
      (reason: unknown) => reason as Error,
    );
    expect(error.message).toMatch(/^OOM/);
    // Who logs it logs no value.
    expect(Object.keys(error)).toEqual([]);
    expect(await read(cache, key)).toBe('x');
    expect(lines).toEqual([]);
  });

  it('tells in the log that the password is wrong, and not the password; works with the right one', async () => {
    const server = await start();
    await askLine(server.port, 'CONFIG SET requirepass right-secret');
    const wrong = open({ url: `redis://:wrong-secret@127.0.0.1:${server.port}` });
    const without = open({ url: server.url });
    await until('both are told', () => lines.length >= 2);
    for (let round = 0; round < 20; round += 1) {
      for (const cache of [wrong, without]) {
        const error = await cache.get(fresh()).then(
          () => undefined,
          (reason: unknown) => reason as Error,
        );
        expect(error?.stack).not.toContain('secret');
        expect(JSON.stringify(error)).toBe('{}');
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(lines.toSorted()).toEqual([
      expect.stringMatching(/cannot be reached: .*NOAUTH/),
      expect.stringMatching(/cannot be reached: WRONGPASS/),
    ]);
    expect(lines.join('\n')).not.toContain('secret');
    await answers(open({ url: `redis://:right-secret@127.0.0.1:${server.port}` }));
    await answers(open({ url: server.url, options: { password: 'right-secret' } }));
  });

  it('answers 2,000 questions at a time, each its own, on one connection', async () => {
    const server = await start();
    const cache = open({ url: server.url });
    await answers(cache);
    const keys = Array.from({ length: 2_000 }, fresh);
    await Promise.all(keys.map((key) => write(cache, key, key)));
    const found = await Promise.all(keys.map((key) => read(cache, key)));
    expect(found).toEqual(keys);
    // Its own, and that of this question.
    expect(await askLine(server.port, 'INFO clients')).toContain('connected_clients:2\r\n');
  });

  it('uses the database of its URL', async () => {
    const server = await start();
    const cache = open({ url: `${server.url}/3` });
    await answers(cache);
    await write(cache, fresh(), 'x');
    expect(await askLine(server.port, 'INFO keyspace')).toMatch(/db3:keys=1/);
  });
});

describeWith(['redis-server'], 'closing a cache in Redis', () => {
  it('ends what is under way at once, may be done twice, and nothing is asked any more', async () => {
    const server = await start();
    const cache = open({ url: server.url, commandTimeout: '60s' });
    await answers(cache);
    await server.pause();
    const underWay = Array.from({ length: 50 }, () => settled(cache.get(fresh())));
    expect(await closing(cache, underWay)).toBeLessThan(200);
    expect(new Set(await Promise.all(underWay))).toEqual(new Set(['rejected']));
    await cache.close();
    await expect(cache.get(fresh())).rejects.toThrow('closed');
    cache.start();
    await expect(cache.get(fresh())).rejects.toThrow('closed');
    server.resume();
    await until('the server has no client but the one that asks', async () =>
      (await askLine(server.port, 'INFO clients')).includes('connected_clients:1\r\n'),
    );
    expect(lines).toEqual([]);
  });

  describe('lets the process end', () => {
    it.each([
      ['with commands under way', 'frozen'],
      ['while it is connected', 'up'],
      ['while nobody listens', 'away'],
      ['when it was never started', 'unused'],
    ] as const)('%s', async (_, state) => {
      const server = await start();
      if (state === 'away') await server.kill();
      const { code, tookMs } = await exitAfter({ url: server.url, commandTimeout: '60s' }, state, () =>
        server.pause(),
      );
      expect(code).toBe(0);
      expect(tookMs).toBeLessThan(1_000);
    });
  });
});
