import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { IdempotencyEvent } from '../events/idempotency-event.js';
import { GuardedCache } from './guarded-cache.js';
import type { SharedCache, SharedCacheWrite } from './shared-cache.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const bytes = Buffer.from('x');
const never = (): Promise<never> => new Promise(() => undefined);
const broken = (): never => {
  throw new Error('broken');
};

/** A cache of two nodes, `a` and `b`, after the first letter of the key. */
function open(parts: Partial<SharedCache> = {}) {
  const held = new Map<string, Uint8Array>();
  const writes: SharedCacheWrite[] = [];
  const cache: SharedCache = {
    name: 'double',
    start: () => undefined,
    nodeOf: (key) => key.charAt(0),
    get: (key) => Promise.resolve(held.get(key)),
    set: (key, value, write) => {
      held.set(key, value);
      writes.push(write);
      return Promise.resolve();
    },
    delete: (key) => {
      held.delete(key);
      return Promise.resolve();
    },
    close: () => Promise.resolve(),
    ...parts,
  };
  const events: IdempotencyEvent[] = [];
  const guarded = new GuardedCache({ cache, timeoutMs: 50, emit: (event) => events.push(event) });
  return { guarded, held, writes, events };
}

describe('GuardedCache', () => {
  it('passes on what the cache answers', async () => {
    const { guarded, writes } = open();
    expect(await guarded.get('a')).toBeUndefined();
    expect(await guarded.set('a', bytes, { ttlMs: 10 })).toBe(true);
    expect(await guarded.set('b', bytes, { ttlMs: 10.9, onlyIfAbsent: true })).toBe(true);
    expect(writes).toEqual([{ ttlMs: 10 }, { ttlMs: 10, onlyIfAbsent: true }]);
    expect(await guarded.get('a')).toBe(bytes);
    expect(await guarded.delete('a')).toBe(true);
    expect(await guarded.get('a')).toBeUndefined();
  });

  it('offers no value that is larger, and asks for no time that is longer, than the cache can keep', async () => {
    const { guarded, writes } = open({ maxValueBytes: 1, maxTtlMs: 1_000 });
    expect(await guarded.set('a', Buffer.from('xy'), { ttlMs: 10 })).toBe(false);
    expect(await guarded.set('a', bytes, { ttlMs: 2_000 })).toBe(true);
    expect(writes).toEqual([{ ttlMs: 1_000 }]);
  });

  it('writes nothing for less than a millisecond', async () => {
    const { guarded, writes } = open();
    for (const ttlMs of [0.9, 0, -1]) expect(await guarded.set('a', bytes, { ttlMs })).toBe(false);
    expect(writes).toEqual([]);
  });

  it.each([
    ['rejects', () => Promise.reject(new Error('broken'))],
    ['throws', broken],
    ['cannot name the node', undefined],
  ])('has no failure of its own when the cache %s', async (_, fails) => {
    const { guarded } = open(fails ? { get: fails, set: fails, delete: fails } : { nodeOf: broken });
    for (let count = 0; count < 5; count++) {
      expect(await guarded.get('a')).toBeUndefined();
      expect(await guarded.set('a', bytes, { ttlMs: 10 })).toBe(false);
      expect(await guarded.delete('a')).toBe(false);
    }
  });

  it('is over in time when the cache says nothing', async () => {
    const { guarded } = open({ get: never, set: never, delete: never });
    const answers = Promise.all([
      guarded.get('a'),
      guarded.set('a', bytes, { ttlMs: 10 }),
      guarded.delete('a'),
    ]);
    await vi.advanceTimersByTimeAsync(51);
    expect(await answers).toEqual([undefined, false, false]);
  });

  it('goes on with the node that works, and tells of the one that does not by name', async () => {
    const asked: string[] = [];
    let isDown = true;
    const { guarded, events } = open({
      get: (key) => {
        asked.push(key);
        return key.startsWith('a') && isDown
          ? Promise.reject(new Error('ECONNREFUSED'))
          : Promise.resolve(bytes);
      },
    });
    for (const key of ['a1', 'a2', 'a3', 'a4', 'b1', 'b2']) await guarded.get(key);
    expect(asked).toEqual(['a1', 'a2', 'a3', 'b1', 'b2']);
    const which = { cache: 'double', node: 'a' };
    expect(events).toEqual([{ type: 'cache-unavailable', ...which, error: new Error('ECONNREFUSED') }]);
    isDown = false;
    await vi.advanceTimersByTimeAsync(250);
    expect(events.at(-1)).toEqual({ type: 'cache-available', ...which });
    expect(await guarded.get('a1')).toBe(bytes);
  });

  it('keeps no list of nodes that grows for ever', async () => {
    const { guarded, events } = open({
      nodeOf: (key) => key,
      get: () => Promise.reject(new Error('ECONNREFUSED')),
    });
    for (let count = 0; count < 300; count++) await guarded.get(String(count));
    // 256 of their own, and the others together.
    expect(events).toEqual([
      { type: 'cache-unavailable', cache: 'double', node: '', error: new Error('ECONNREFUSED') },
    ]);
    await guarded.close();
  });

  it('lets nothing about the cache fail the start or the shutdown', async () => {
    const { guarded, events } = open({ start: broken, close: broken });
    guarded.start();
    expect(events).toEqual([
      { type: 'cache-unavailable', cache: 'double', node: '', error: new Error('broken') },
    ]);
    await guarded.close();
    await guarded.close();
  });

  it('holds no shutdown up for longer than a second', async () => {
    const { guarded } = open({ close: never });
    let isClosed = false;
    void guarded.close().then(() => (isClosed = true));
    await vi.advanceTimersByTimeAsync(1_000);
    expect(isClosed).toBe(true);
  });

  it('asks and tells nothing any more once it is closed', async () => {
    const get = vi.fn(() => Promise.reject(new Error('closed')));
    const { guarded, events } = open({ get });
    await guarded.close();
    for (let count = 0; count < 5; count++) expect(await guarded.get('a')).toBeUndefined();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(get).not.toHaveBeenCalled();
    expect(events).toEqual([]);
  });
});
