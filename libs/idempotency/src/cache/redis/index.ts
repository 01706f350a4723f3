export { redisCache } from './redis.cache.js';
export type {
  RedisAddress,
  RedisCacheOptions,
  RedisClusterCacheOptions,
  RedisClusterSettings,
  RedisConnectionOptions,
  RedisConnectionSettings,
  RedisSentinelCacheOptions,
  RedisServerCacheOptions,
} from './redis.options.js';
