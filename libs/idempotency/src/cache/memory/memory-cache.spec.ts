import { describe, expect, it, vi } from 'vitest';
import { IdempotencyConfigurationError } from '../../errors/configuration.error.js';
import type { CachedOutcome } from '../local-cache.js';
import { memoryCache, type MemoryCacheOptions } from './index.js';

const outcome = (text = ''): CachedOutcome => ({
  fingerprint: Buffer.alloc(32),
  expiresAtMs: 0,
  raised: false,
  response: { status: 201, headers: {}, body: Buffer.from(text) },
});

describe('memoryCache', () => {
  it('gives back what was put there, until it is deleted or replaced', () => {
    const cache = memoryCache();
    const [first, second] = [outcome('1'), outcome('2')];
    cache.set('a', first, 600);
    expect(cache.get('a')).toBe(first);
    cache.set('a', second, 600);
    expect(cache.get('a')).toBe(second);
    cache.delete('a');
    cache.delete('a');
    expect(cache.get('a')).toBeUndefined();
  });

  it('holds no more bytes than it may; the least recently used go first', () => {
    const cache = memoryCache({ maxBytes: 10_000 });
    for (const key of ['a', 'b', 'c', 'd']) cache.set(key, outcome(), 2_500);
    cache.get('a');
    cache.set('e', outcome(), 2_500);
    expect(['a', 'b', 'c', 'd', 'e'].filter((key) => cache.get(key))).toEqual(['a', 'c', 'd', 'e']);
    cache.set('f', outcome(), 7_500);
    expect(['a', 'b', 'c', 'd', 'e', 'f'].filter((key) => cache.get(key))).toEqual(['e', 'f']);
  });

  it('does not keep what is larger than all of it, nor what stood there before', () => {
    const cache = memoryCache({ maxBytes: 1_024 });
    cache.set('a', outcome(), 600);
    cache.set('a', outcome(), 1_025);
    expect(cache.get('a')).toBeUndefined();
    cache.set('b', outcome(), 1_024);
    expect(cache.get('b')).toBeDefined();
  });

  it('counts even what is said to take up nothing', () => {
    const cache = memoryCache({ maxBytes: 1_024 });
    for (let key = 0; key < 5_000; key++) cache.set(String(key), outcome(), 0);
    expect(Array.from({ length: 5_000 }, (_, key) => cache.get(String(key))).filter(Boolean)).toHaveLength(
      1_024,
    );
  });

  it.each([
    [undefined, 60_000],
    ['5s', 5_000],
    [7, 7],
  ] as const)('keeps an outcome for maxAge (%s) from when it was put there', (maxAge, ms) => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    let now = 1_000;
    // The object itself: lru-cache took hold of it when it was loaded.
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => now);
    const pass = (time: number): void => {
      now += time;
      vi.advanceTimersByTime(time);
    };
    try {
      const cache = memoryCache(maxAge === undefined ? {} : { maxAge });
      cache.set('a', outcome(), 600);
      pass(ms - 2);
      expect(cache.get('a')).toBeDefined();
      pass(4);
      // Being asked for has not made it younger.
      expect(cache.get('a')).toBeUndefined();
    } finally {
      clock.mockRestore();
      vi.useRealTimers();
    }
  });

  it.each<[MemoryCacheOptions, RegExp]>([
    [{ maxBytes: 1_023 }, /^memoryCache\(\{ maxBytes \}\): received 1023\. .*from 1024/],
    [{ maxBytes: 2_000.5 }, /maxBytes.*received 2000\.5/],
    [{ maxBytes: Infinity }, /maxBytes.*received Infinity/],
    [{ maxBytes: '32 MiB' as unknown as number }, /maxBytes.*received '32 MiB'/],
    [{ maxAge: 0 }, /^memoryCache\(\{ maxAge \}\): received 0\. .*from 1 ms/],
    [{ maxAge: '-1s' }, /maxAge.*received '-1s'/],
    [{ maxAge: 'soon' as '1s' }, /maxAge.*received 'soon'/],
  ])('refuses %o', (options, message) => {
    expect(() => memoryCache(options)).toThrow(IdempotencyConfigurationError);
    expect(() => memoryCache(options)).toThrow(message);
  });

  it('refuses an option that it does not have', () => {
    expect(() => memoryCache({ maxItems: 5 } as MemoryCacheOptions)).toThrow(/maxItems.*no such option/);
    expect(() => memoryCache(null as unknown as MemoryCacheOptions)).toThrow(
      /memoryCache\(\): received null/,
    );
  });
});
