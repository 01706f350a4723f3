import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SharedCache } from '../../libs/idempotency/src/cache/shared-cache.js';
import { until } from './until.js';

/** What every cache of the package keeps to, on its real servers. */
export function itKeepsTheContract(
  title: string,
  open: () => Promise<{ cache: SharedCache; close(): Promise<void> }>,
): void {
  describe(title, () => {
    let cache: SharedCache;
    let close: () => Promise<void>;
    const fresh = (): string => `test:${randomUUID()}`;
    const DAY_MS = 86_400_000;

    beforeAll(async () => {
      ({ cache, close } = await open());
      cache.start();
      // As many keys as leave no node out.
      await until('every node of the cache answers', () =>
        Promise.all(Array.from({ length: 100 }, () => cache.get(fresh()))).then(
          () => true,
          () => undefined,
        ),
      );
    });
    afterAll(async () => {
      await cache.close();
      await close();
    });

    it('gives back the bytes it was given, whatever they are', async () => {
      const values = [
        Buffer.alloc(0),
        Buffer.from('\r\nEND\r\n'),
        Buffer.of(0, 255, 10, 13),
        randomBytes(200_000),
      ];
      for (const value of values) {
        const key = fresh();
        await cache.set(key, value, { ttlMs: 60_000 });
        const found = await cache.get(key);
        expect(found && Buffer.from(found).equals(value)).toBe(true);
      }
    });

    it('has nothing under a key that was never written, or was deleted', async () => {
      const key = fresh();
      expect(await cache.get(key)).toBeUndefined();
      await cache.set(key, Buffer.from('x'), { ttlMs: 60_000 });
      await cache.delete(key);
      await cache.delete(key);
      expect(await cache.get(key)).toBeUndefined();
    });

    it('replaces a value, unless it is to be written only if absent', async () => {
      const key = fresh();
      const read = async (): Promise<string> => Buffer.from((await cache.get(key)) ?? []).toString();
      await cache.set(key, Buffer.from('1'), { ttlMs: 60_000, onlyIfAbsent: true });
      await cache.set(key, Buffer.from('2'), { ttlMs: 60_000, onlyIfAbsent: true });
      expect(await read()).toBe('1');
      await cache.set(key, Buffer.from('3'), { ttlMs: 60_000 });
      expect(await read()).toBe('3');
    });

    it('forgets a value when its time is over', async () => {
      const key = fresh();
      await cache.set(key, Buffer.from('x'), { ttlMs: 2_000 });
      await until(
        'it is forgotten',
        async () => ((await cache.get(key)) === undefined ? true : undefined),
        5_000,
      );
    });

    it('keeps nothing for a time that it cannot count, and not for ever', async () => {
      const key = fresh();
      await cache.set(key, Buffer.from('x'), { ttlMs: 1 });
      await until(
        'it is forgotten',
        async () => ((await cache.get(key)) === undefined ? true : undefined),
        3_000,
      );
    });

    it('keeps a value that is to be kept for longer than it can', async () => {
      const key = fresh();
      await cache.set(key, Buffer.from('x'), { ttlMs: Math.min(400 * DAY_MS, cache.maxTtlMs ?? Infinity) });
      expect(await cache.get(key)).toBeDefined();
    });

    it('keeps a value of the largest size that it says it takes', async () => {
      const key = fresh();
      const value = randomBytes(Math.min(cache.maxValueBytes ?? 4_000_000, 4_000_000));
      await cache.set(key, value, { ttlMs: 60_000 });
      const found = await cache.get(key);
      expect(found && Buffer.from(found).equals(value)).toBe(true);
    });

    it('tells the same node for a key every time', () => {
      const key = fresh();
      expect(cache.nodeOf(key)).toBe(cache.nodeOf(key));
    });

    it('answers many questions at a time, each its own', async () => {
      const keys = Array.from({ length: 500 }, fresh);
      await Promise.all(keys.map((key) => cache.set(key, Buffer.from(key), { ttlMs: 60_000 })));
      const found = await Promise.all(keys.map((key) => cache.get(key)));
      expect(found.map((value) => Buffer.from(value ?? []).toString())).toEqual(keys);
    });
  });
}
