import { LRUCache } from 'lru-cache';
import { type Duration, durationMs } from '../../duration.js';
import { check } from '../../option-checks.js';
import type { CachedOutcome, LocalCache } from '../local-cache.js';

/** Options of {@link memoryCache}. */
export interface MemoryCacheOptions {
  /**
   * How much memory the answers may take up in this process, in bytes, about: the least recently used go first, and one that is
   * larger than all of it is not kept. From 1024.
   * @default 33554432 (32 MiB)
   */
  maxBytes?: number;

  /**
   * How long an answer is kept in this process, at most as long as its record counts. It is also how long an answer that
   * `IdempotencyAdmin.erase()` has taken out of the tables may still be replayed by another process. From 1 ms.
   * @default '1m'
   */
  maxAge?: Duration;
}

const NAMES: readonly string[] = ['maxBytes', 'maxAge'];

/**
 * Keeps the most recent final outcomes in the memory of this process (`lru-cache`, an optional peer): their replays need
 * neither the database nor the network.
 *
 * @throws {IdempotencyConfigurationError} naming the option, what was received and the fix.
 */
export function memoryCache(options: MemoryCacheOptions = {}): LocalCache {
  const what = 'memoryCache()';
  check(typeof options === 'object' && options !== null, what, options, 'use an object of its options');
  for (const [name, value] of Object.entries(options)) {
    check(
      NAMES.includes(name),
      `memoryCache({ ${name} })`,
      value,
      `${what} has no such option; remove it or correct its spelling`,
    );
  }
  const { maxBytes = 32 * 1024 * 1024, maxAge = '1m' } = options;
  check(
    Number.isInteger(maxBytes) && maxBytes >= 1024,
    'memoryCache({ maxBytes })',
    maxBytes,
    'use an integer number of bytes from 1024',
  );
  const ttl = durationMs(maxAge);
  check(
    ttl !== undefined && ttl >= 1,
    'memoryCache({ maxAge })',
    maxAge,
    "use milliseconds or a text as '30s' or '5m', from 1 ms",
  );
  const cache = new LRUCache<string, CachedOutcome>({ maxSize: maxBytes, ttl: Math.ceil(ttl) });
  return {
    get: (key) => cache.get(key),
    set: (key, outcome, bytes) => void cache.set(key, outcome, { size: Math.max(1, bytes) }),
    delete: (key) => void cache.delete(key),
  };
}
