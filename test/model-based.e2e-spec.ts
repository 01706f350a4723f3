import { memcachedCache } from 'nestjs-pg-idempotency/memcached';
import { redisCache } from 'nestjs-pg-idempotency/redis';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { commandsFor } from './model-based/commands/index.js';
import { type Exploration, explore, limitOf, wanted } from './model-based/explore.js';
import { ReferenceModel } from './model-based/reference-model.js';
import { type CacheServer, openSystem, type System, type SystemOptions } from './model-based/system.js';
import type { Seen, Target } from './model-based/words.js';
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
const chosen = wanted({ seed: 1, runs: 20 });

/** A model that is wrong: it wants a replay to have the status of the first answer. */
class WrongModel extends ReferenceModel {
  override known(target: Target, amount: number): Seen | undefined {
    const known = super.known(target, amount);
    return known?.status === 200 ? { ...known, status: 201 } : known;
  }
}

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

    const start = (given: Pick<Exploration, 'seed' | 'runs' | 'path' | 'makeModel'>): Promise<void> => {
      const commands = commandsFor({ hasCache: cache !== undefined, hasHints: system.hasHints });
      return explore({ title, commands, system, ...given });
    };

    it(
      'agrees with the reference model, whatever is asked and whatever fails',
      () => start(chosen),
      limitOf(chosen.runs) + 60_000,
    );

    // Once is enough: caches make no other model wrong.
    if (startCache) return;
    it(
      'is told from a model that is wrong, by a list of commands that shows it again',
      async () => {
        const part = async (path?: string): Promise<{ count: string; list: string[]; path: string }> => {
          const makeModel = (): ReferenceModel => new WrongModel();
          const given = { seed: 1, runs: 20, makeModel, ...(path === undefined ? {} : { path }) };
          const told = String(
            await start(given).then(
              () => 'they agree',
              (error: unknown) => error,
            ),
          );
          return {
            count: /part after (\d+) operations/.exec(told)?.[1] ?? told,
            list: told.match(/^ {2}\d+\. .*$/gm) ?? [],
            path: /MODEL_PATH='(.*)'/.exec(told)?.[1] ?? '',
          };
        };
        const first = await part();
        expect(first.list.length).toBeGreaterThan(0);
        expect(Number(first.count)).toBeGreaterThanOrEqual(first.list.length);
        const again = await part(first.path);
        expect(again).toEqual({ ...first, count: String(first.list.length) });
      },
      limitOf(20),
    );
  });
}
