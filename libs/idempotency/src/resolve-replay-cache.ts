import type { LocalCache } from './cache/local-cache.js';
import type { SharedCache } from './cache/shared-cache.js';
import type { ReplayCacheOptions } from './idempotency.options.js';
import { check, milliseconds } from './option-checks.js';
import { sealingKeys } from './resolve-sealing-keys.js';

/** The replay cache, resolved. */
export interface ReplayCacheSettings {
  readonly memory: LocalCache | undefined;
  readonly shared: { readonly cache: SharedCache; readonly keys: readonly Buffer[] } | undefined;
  readonly timeoutMs: number;
  /** `undefined`: no hints. */
  readonly inFlightMs: number | undefined;
}

const NAMES: readonly (keyof ReplayCacheOptions)[] = ['memory', 'shared', 'keys', 'timeout', 'inFlightTtl'];

/** It may be a key under another name, or an address with a password. */
const HIDDEN: readonly string[] = ['a value that is not shown'];

/** @throws {IdempotencyConfigurationError} naming the option, the value received and the fix. */
export function resolveReplayCache(
  options: ReplayCacheOptions | undefined,
  encryptionKeys: readonly Buffer[] | undefined,
): ReplayCacheSettings | undefined {
  if (options === undefined) return undefined;
  check(
    typeof options === 'object' && options !== null && !Array.isArray(options),
    'replayCache',
    HIDDEN,
    'use an object of its options',
  );
  for (const name of Object.keys(options)) {
    check(
      (NAMES as readonly string[]).includes(name),
      `replayCache.${name}`,
      HIDDEN,
      'replayCache has no such option; remove it or correct its spelling',
    );
  }
  const { memory, shared, timeout = '50ms', inFlightTtl = '2s' } = options;
  check(
    memory === undefined || hasMethods(memory, ['get', 'set', 'delete']),
    'replayCache.memory',
    HIDDEN,
    "use memoryCache() of 'nestjs-pg-idempotency/memory'",
  );
  check(
    shared === undefined || hasMethods(shared, ['start', 'nodeOf', 'get', 'set', 'delete', 'close']),
    'replayCache.shared',
    HIDDEN,
    "use redisCache() of 'nestjs-pg-idempotency/redis', or memcachedCache() of 'nestjs-pg-idempotency/memcached'",
  );
  check(
    memory !== undefined || shared !== undefined,
    'replayCache',
    HIDDEN,
    'give it a memory cache, a shared cache or both, or leave replayCache out',
  );
  const keys = sealingKeys('replayCache.keys', options.keys) ?? encryptionKeys;
  return {
    memory,
    shared: shared && { cache: shared, keys: requiredKeys(keys) },
    timeoutMs: milliseconds('replayCache.timeout', timeout, { min: 1, max: 60_000 }),
    inFlightMs:
      inFlightTtl === false
        ? undefined
        : milliseconds('replayCache.inFlightTtl', inFlightTtl, { min: 1_000, max: 60_000 }),
  };
}

/** Fail closed: what anybody may have written must not be replayed. */
function requiredKeys(keys: readonly Buffer[] | undefined): readonly Buffer[] {
  check(
    keys !== undefined,
    'replayCache.keys',
    keys,
    'a shared cache needs keys that its entries are sealed with: 32 random bytes, the same on all instances, as from ' +
      '`openssl rand -base64 32`; or set encryptionKeys',
  );
  return keys;
}

function hasMethods(value: unknown, names: readonly string[]): boolean {
  return (
    typeof value === 'object' &&
    value !== null &&
    names.every((name) => typeof (value as Record<string, unknown>)[name] === 'function')
  );
}
