import { memcachedCache } from 'nestjs-pg-idempotency/memcached';
import { redisCache } from 'nestjs-pg-idempotency/redis';
import { afterAll, beforeAll, it } from 'vitest';
import { commandsFor } from './model-based/commands/index.js';
import { explore, limitOf, wanted } from './model-based/explore.js';
import { type CacheServer, openSystem, type System, type SystemOptions } from './model-based/system.js';
import { describeWith, type ServerName } from './support/servers.js';
import { askLine, startMemcached, startRedis } from './support/topology.js';

interface Backend {
  readonly title: string;
  readonly needs: readonly ServerName[];
  readonly options: Omit<SystemOptions, 'cache'>;
  readonly startCache?: () => Promise<CacheServer>;
}

/**
 * Random lives of keys, on real servers, compared with a reference model after every command. The seeds are fixed, so that
 * every run of the suite does the same. `MODEL_RUNS=200 MODEL_SEED=7` does more, and something else.
 */
const BACKENDS: readonly Backend[] = [
  {
    title: 'on PostgreSQL alone',
    needs: [],
    options: { platform: 'express', pipeline: true },
  },
  {
    title: 'with Redis as the replay cache',
    needs: ['redis-server'],
    options: { platform: 'fastify', pipeline: true, hasHints: true },
    startCache: async () => {
      const server = await startRedis();
      const open = () => redisCache({ url: server.url });
      return { server, open, flush: async () => void (await askLine(server.port, 'FLUSHALL')) };
    },
  },
  {
    title: 'with Memcached as the replay cache',
    needs: ['memcached'],
    options: { platform: 'express', pipeline: false },
    startCache: async () => {
      const server = await startMemcached();
      const open = () => memcachedCache({ nodes: [`127.0.0.1:${server.port}`] });
      return { server, open, flush: async () => void (await askLine(server.port, 'flush_all')) };
    },
  },
];
const { seed, runs } = wanted({ seed: 1, runs: 20 });

for (const { title, needs, options, startCache } of BACKENDS) {
  describeWith(needs, title, () => {
    let cache: CacheServer | undefined;
    let system: System;

    beforeAll(async () => {
      cache = await startCache?.();
      system = await openSystem({ ...options, ...(cache ? { cache } : {}) });
    });
    afterAll(async () => {
      await system.close();
      await cache?.server.stop();
    });

    it(
      'agrees with the reference model, whatever is asked and whatever fails',
      () => {
        const traits = { hasCache: cache !== undefined, hasHints: system.hasHints };
        return explore({ title, seed, runs, commands: commandsFor(traits), system });
      },
      limitOf(runs) + 60_000,
    );
  });
}
