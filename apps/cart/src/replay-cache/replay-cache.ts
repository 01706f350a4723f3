import type { ReplayCacheOptions } from 'nestjs-pg-idempotency';
import type { CartConfig } from '../config.js';

/** The cache that was chosen. Its driver is loaded only then. */
export async function replayCacheOf({
  replayCache: choice,
  replayCacheKey: key,
  replayCacheTimeout: timeout,
}: Pick<CartConfig, 'replayCache' | 'replayCacheKey' | 'replayCacheTimeout'>): Promise<
  ReplayCacheOptions | undefined
> {
  if (choice.kind === 'none') return undefined;
  const { memoryCache } = await import('nestjs-pg-idempotency/memory');
  const memory = memoryCache();
  const how = {
    ...(key === undefined ? {} : { keys: [key] }),
    ...(timeout === undefined ? {} : { timeout }),
  };
  switch (choice.kind) {
    case 'memory':
      return { memory };
    case 'redis': {
      const { redisCache } = await import('nestjs-pg-idempotency/redis');
      return { memory, shared: redisCache({ url: choice.url }), ...how };
    }
    case 'redis-cluster': {
      const { redisCache } = await import('nestjs-pg-idempotency/redis');
      return { memory, shared: redisCache({ cluster: choice.nodes }), ...how };
    }
    case 'memcached': {
      const { memcachedCache } = await import('nestjs-pg-idempotency/memcached');
      return {
        memory,
        shared: memcachedCache({ nodes: choice.nodes.map(({ host, port }) => `${host}:${port}`) }),
        ...how,
      };
    }
  }
}
