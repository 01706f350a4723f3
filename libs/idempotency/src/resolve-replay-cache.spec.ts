import { describe, expect, it } from 'vitest';
import { memoryCache } from './cache/memory/index.js';
import type { SharedCache } from './cache/shared-cache.js';
import { IdempotencyConfigurationError } from './errors/configuration.error.js';
import type { ReplayCacheOptions } from './idempotency.options.js';
import { resolveReplayCache } from './resolve-replay-cache.js';

const nothing = (): Promise<undefined> => Promise.resolve(undefined);
const shared: SharedCache = {
  name: 'double',
  start: () => undefined,
  nodeOf: () => '',
  get: nothing,
  set: nothing,
  delete: nothing,
  close: nothing,
};
const memory = memoryCache();
const key = Buffer.alloc(32, 7);
const other = Buffer.alloc(32, 9);
/** As somebody might pass it where it does not belong. */
const SECRET = 'redis://user:hunter2@cache:6379';

function faultOf(act: () => unknown): IdempotencyConfigurationError {
  try {
    act();
  } catch (error) {
    if (error instanceof IdempotencyConfigurationError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('resolveReplayCache', () => {
  it('is off without options', () => {
    expect(resolveReplayCache(undefined, [key])).toBeUndefined();
  });

  it('fills in the documented defaults', () => {
    expect(resolveReplayCache({ memory }, undefined)).toEqual({
      memory,
      shared: undefined,
      timeoutMs: 50,
      inFlightMs: 2_000,
    });
  });

  it('takes its own keys for the shared cache, and encryptionKeys without them', () => {
    const keysOf = (options: ReplayCacheOptions, encryptionKeys?: Buffer[]): unknown =>
      resolveReplayCache(options, encryptionKeys)?.shared?.keys;
    expect(keysOf({ shared, keys: [key] }, [other])).toEqual([key]);
    expect(keysOf({ shared }, [other])).toEqual([other]);
    expect(keysOf({ memory }, [other])).toBeUndefined();
  });

  it('takes times, and no hints', () => {
    const options: ReplayCacheOptions = { memory, timeout: 7, inFlightTtl: '1s' };
    expect(resolveReplayCache(options, undefined)).toMatchObject({ timeoutMs: 7, inFlightMs: 1_000 });
    expect(resolveReplayCache({ memory, inFlightTtl: false }, undefined)).toMatchObject({
      inFlightMs: undefined,
    });
  });

  it('refuses a shared cache without any key, and says how to make one', () => {
    const fault = faultOf(() => resolveReplayCache({ shared }, undefined));
    expect(fault.option).toBe('replayCache.keys');
    expect(fault.message).toContain('`openssl rand -base64 32`');
    expect(fault.message).toContain('encryptionKeys');
  });

  it.each<[option: string, value: unknown, fix: RegExp]>([
    ['replayCache', SECRET, /use an object/i],
    ['replayCache', null, /use an object/i],
    ['replayCache', [shared], /use an object/i],
    ['replayCache', {}, /a memory cache, a shared cache or both/],
    ['replayCache', { keys: [key] }, /a memory cache, a shared cache or both/],
    ['replayCache.redis', { redis: SECRET }, /no such option/],
    ['replayCache.memory', { memory: true }, /memoryCache\(\)/],
    ['replayCache.memory', { memory: null }, /memoryCache\(\)/],
    ['replayCache.shared', { shared: SECRET }, /redisCache\(\)/],
    ['replayCache.shared', { shared: { ...shared, nodeOf: undefined } }, /memcachedCache\(\)/],
    ['replayCache.shared', { shared: memory }, /redisCache\(\)/],
    ['replayCache.keys', { shared, keys: ['hunter2'] }, /32 random bytes/],
    ['replayCache.keys', { shared, keys: [] }, /1 to 16 keys/],
    ['replayCache.keys', { memory, keys: 'hunter2' }, /1 to 16 keys/],
    ['replayCache.timeout', { memory, timeout: 0 }, /from 1 ms to 60000 ms/],
    ['replayCache.timeout', { memory, timeout: '2m' }, /from 1 ms to 60000 ms/],
    ['replayCache.inFlightTtl', { memory, inFlightTtl: 999 }, /from 1000 ms to 60000 ms/],
    ['replayCache.inFlightTtl', { memory, inFlightTtl: true }, /from 1000 ms/],
  ])('refuses %s: %j, and shows no secret', (option, value, fix) => {
    const fault = faultOf(() => resolveReplayCache(value as ReplayCacheOptions, undefined));
    expect(fault.option).toBe(option);
    expect(fault.message).toMatch(fix);
    expect(fault.message).not.toMatch(/hunter2|07 07/);
  });
});
