import type { SharedCache } from '../shared-cache.js';
import { MemcachedCache } from './memcached.cache.js';
import { resolveMemcached, type MemcachedCacheOptions } from './memcached.options.js';

export type { MemcachedCacheOptions } from './memcached.options.js';

/**
 * A cache on the nodes of a Memcached. It speaks the text protocol by itself and needs no client to be installed.
 *
 * @throws {IdempotencyConfigurationError} naming the option, the value received and the fix.
 */
export function memcachedCache(options: MemcachedCacheOptions): SharedCache {
  return new MemcachedCache(resolveMemcached(options));
}
