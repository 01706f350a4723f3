import type { ReplayCacheOptions } from 'nestjs-pg-idempotency';
import type { ReplayCacheChoice } from './replay-cache.config.js';

/** The cache that was chosen. Its driver is loaded only then. */
export async function replayCacheOf(
  choice: ReplayCacheChoice,
  key: string | undefined,
): Promise<ReplayCacheOptions | undefined> {
  if (choice.kind === 'none') return undefined;
  const { memoryCache } = await import('nestjs-pg-idempotency/memory');
  const memory = memoryCache();
  const keys = key === undefined ? {} : { keys: [key] };
  switch (choice.kind) {
    case 'memory':
      return { memory };
    case 'redis': {
      const { redisCache } = await import('nestjs-pg-idempotency/redis');
      return { memory, shared: redisCache({ url: choice.url }), ...keys };
    }
    case 'redis-cluster': {
      const { redisCache } = await import('nestjs-pg-idempotency/redis');
      return { memory, shared: redisCache({ cluster: choice.nodes }), ...keys };
    }
    case 'memcached': {
      const { memcachedCache } = await import('nestjs-pg-idempotency/memcached');
      return {
        memory,
        shared: memcachedCache({ nodes: choice.nodes.map(({ host, port }) => `${host}:${port}`) }),
        ...keys,
      };
    }
  }
}
