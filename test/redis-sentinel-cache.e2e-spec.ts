import { type RedisCacheOptions, redisCache } from 'nestjs-pg-idempotency/redis';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import type { SharedCache } from '../libs/idempotency/src/cache/shared-cache.js';
import { answers, fresh, read, settled, write } from './support/cache-questions.js';
import { logLines } from './support/log-lines.js';
import { exitAfter } from './support/redis-process.js';
import { startRedisGroup, type RedisGroup } from './support/redis-sentinel.js';
import { describeWith } from './support/servers.js';
import { itKeepsTheContract } from './support/shared-cache-contract.js';
import { askLine, type LocalServer } from './support/topology.js';
import { until } from './support/until.js';

/** A Sentinel that was kept from the processor for two seconds does nothing for thirty (TILT); then comes what it does without. */
const FAILED_OVER_WITHIN_MS = 75_000;

let lines: string[];
beforeEach(() => (lines = logLines()));
afterEach(() => vi.restoreAllMocks());

describeWith(['redis-server', 'redis-sentinel'], 'a cache in a Redis with Sentinels', () => {
  const optionsFor = ({ sentinels, name }: RedisGroup): RedisCacheOptions => ({
    sentinels: sentinels.map(({ host, port }) => ({ host, port })),
    name,
    commandTimeout: '300ms',
  });
  const start = async (options?: Parameters<typeof startRedisGroup>[0]): Promise<RedisGroup> => {
    const group = await startRedisGroup(options);
    onTestFinished(() => group.stop());
    return group;
  };
  const open = async (group: RedisGroup): Promise<SharedCache> => {
    const cache = redisCache(optionsFor(group));
    onTestFinished(() => cache.close());
    cache.start();
    await answers(cache);
    return cache;
  };

  itKeepsTheContract('on the master', async () => {
    const group = await startRedisGroup({ sentinels: 1 });
    return {
      cache: redisCache({ ...optionsFor(group), commandTimeout: '2s' }),
      close: () => group.stop(),
    };
  });

  it.each([
    ['is killed', async (master: LocalServer): Promise<void> => master.kill()],
    ['freezes', async (master: LocalServer): Promise<void> => master.pause()],
  ])(
    'follows to the replica when the master %s, and leaves the old one alone when it is back',
    async (_, fail) => {
      const group = await start();
      const { master, replica } = group;
      const cache = await open(group);
      const key = fresh();
      await write(cache, key, 'before');
      await fail(master);
      await until(
        'the cache writes again',
        () =>
          write(cache, key, 'after').then(
            () => true as const,
            () => undefined,
          ),
        FAILED_OVER_WITHIN_MS,
      );
      expect(await group.masterPort()).toBe(replica.port);
      expect(await askLine(replica.port, `GET ${key}`)).toContain('after');
      expect(await read(cache, key)).toBe('after');
      expect(lines).toEqual([
        expect.stringMatching(/^warn: the Redis 'mymaster' of the Sentinels at .+ cannot be reached: /),
        expect.stringMatching(/^log: the Redis 'mymaster' of the Sentinels at .+ is back$/),
      ]);

      if (master.isRunning()) master.resume();
      else await master.restart();
      await until(
        'the old master follows the new one',
        async () => (await askLine(master.port, 'INFO replication')).includes('role:slave'),
        FAILED_OVER_WITHIN_MS,
      );
      await write(cache, key, 'later');
      expect(await askLine(replica.port, `GET ${key}`)).toContain('later');
    },
    3 * FAILED_OVER_WITHIN_MS,
  );

  it('works while one Sentinel is left, says when none is, and comes back with them', async () => {
    const group = await start();
    const cache = await open(group);
    const [first, second, third] = group.sentinels as [LocalServer, LocalServer, LocalServer];
    await first.kill();
    await second.pause();
    await answers(await open(group));
    await third.kill();
    // Who is connected stays so.
    await answers(cache);
    const late = redisCache(optionsFor(group));
    onTestFinished(() => late.close());
    late.start();
    expect(await settled(late.get(fresh()))).toBe('rejected');
    await until('it is told', () => lines.length > 0);
    expect(lines).toEqual([expect.stringMatching(/cannot be reached: All sentinels are unreachable/)]);
    await third.restart();
    await answers(late);
    expect(lines.slice(1)).toEqual([expect.stringMatching(/is back$/)]);
  });

  describe('lets the process end', () => {
    it.each(['frozen', 'up', 'away', 'unused'] as const)('closed when it is %s', async (state) => {
      const group = await start({ sentinels: 1 });
      const servers = [group.master, group.replica, ...group.sentinels];
      if (state === 'away') for (const server of servers) await server.kill();
      const { code, tookMs } = await exitAfter(optionsFor(group), state, () =>
        Promise.all(servers.map((server) => server.pause())),
      );
      expect(code).toBe(0);
      // ioredis lets go of a Sentinel that refused it after 2 s, and of one that does not answer after `commandTimeout`.
      expect(tookMs).toBeLessThan(3_000);
    });
  });
});
