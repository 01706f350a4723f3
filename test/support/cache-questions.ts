import { randomUUID } from 'node:crypto';
import type { SharedCache } from '../../libs/idempotency/src/cache/shared-cache.js';
import { until } from './until.js';

/** A key that nobody has used. */
export const fresh = (): string => `test:${randomUUID()}`;

/** Resolves when the cache answers for a key, whatever it answers. */
export const answers = (cache: SharedCache, key = fresh(), timeoutMs = 10_000): Promise<true> =>
  until(
    'the cache answers',
    () =>
      cache
        .get(key)
        .then(() => true as const)
        .catch(() => undefined),
    timeoutMs,
  );

export const write = (cache: SharedCache, key: string, text: string): Promise<void> =>
  cache.set(key, Buffer.from(text), { ttlMs: 60_000 });

export async function read(cache: SharedCache, key: string): Promise<string | undefined> {
  const found = await cache.get(key);
  return found && Buffer.from(found).toString();
}

/** What became of it, without its value. */
export const settled = (work: Promise<unknown>): Promise<'fulfilled' | 'rejected'> =>
  work.then(
    () => 'fulfilled' as const,
    () => 'rejected' as const,
  );

/** Closes the cache, and tells in how many milliseconds that and all that was under way has ended. */
export async function closing(cache: SharedCache, underWay: readonly Promise<unknown>[]): Promise<number> {
  const begun = performance.now();
  await Promise.all([cache.close(), ...underWay]);
  return performance.now() - begun;
}
