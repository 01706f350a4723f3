import { describe, expect, it, vi } from 'vitest';
import {
  aProcess,
  databaseNow,
  execute,
  find,
  identity,
  one,
  outcome,
  pass,
  sharedCache,
  useFakedTime,
} from '../../../../test/support/replay-cache.js';
import { DatabaseClock } from '../store/database-clock.js';
import type { KeptOutcome } from './replay-cache.js';
import { ReplayCaches } from './replay-caches.js';

useFakedTime();

describe('a replay cache', () => {
  it('has nothing of a record before an attempt on it came to an outcome', async () => {
    const { cache, held } = sharedCache();
    const here = aProcess({ shared: cache, memory: true });
    const there = aProcess({ shared: cache });
    const end = here.cache.begin(one, () => true);
    expect(await find(there.cache)).toBeUndefined();
    expect([...held]).toEqual([]);
    end(undefined);
    await pass(5_000);
    expect([await find(here.cache), await find(there.cache)]).toEqual([undefined, undefined]);
    expect([...held]).toEqual([]);
  });

  it('answers from the memory of the process that executed, and from the shared cache elsewhere', async () => {
    const { cache } = sharedCache();
    const here = aProcess({ shared: cache, memory: true });
    const there = aProcess({ shared: cache, memory: true });
    execute(here.cache, outcome());
    await pass(1);
    expect(await find(here.cache)).toBe('memory: paid');
    expect(await find(there.cache)).toBe('shared: paid');
    expect(await find(there.cache)).toBe('memory: paid');
    expect(await here.cache.find(one)).toMatchObject({
      raised: false,
      response: { status: 201, headers: { etag: '"1"' } },
    });
  });

  it('keeps nothing in memory that changes with what it was given', async () => {
    const { cache } = aProcess({ memory: true });
    const kept = outcome();
    const asker = identity();
    execute(cache, kept, asker);
    kept.response.body?.fill('x');
    asker.fingerprint.fill(9);
    expect(await find(cache)).toBe('memory: paid');
  });

  it('holds no more memory of a small answer than the answer', async () => {
    const packet = Buffer.alloc(100_000, 'p');
    const memory = { get: () => undefined, delete: () => undefined, set: vi.fn() };
    const clock = new DatabaseClock();
    clock.observe(databaseNow(), performance.now());
    const caches = new ReplayCaches({
      memory,
      shared: undefined,
      timeoutMs: 50,
      inFlightMs: undefined,
      emit: () => undefined,
    });
    const { expiresAtMs, raised } = outcome();
    const response = { status: 200, headers: {}, body: packet.subarray(0, 10) };
    execute(caches.of('a1', clock), { expiresAtMs, raised, response });
    const held = (memory.set.mock.calls[0] as [string, KeptOutcome])[1].response.body;
    expect(held?.toString()).toBe('pppppppppp');
    expect(held?.buffer.byteLength).toBe(10);
    expect(memory.set.mock.calls[0]?.[2]).toBeGreaterThan(10);
  });

  it('replays a tombstone and a raised error as such', async () => {
    const { cache } = sharedCache();
    const here = aProcess({ shared: cache });
    execute(here.cache, {
      ...outcome(),
      raised: true,
      response: { status: 402, headers: {}, body: null },
    });
    await pass(1);
    expect(await here.cache.find(one)).toEqual({
      kind: 'final',
      raised: true,
      source: 'shared',
      response: { status: 402, headers: {}, body: null },
    });
  });

  it('lets another fingerprint, another record, and another table go to the database', async () => {
    const { cache } = sharedCache();
    const here = aProcess({ shared: cache, memory: true });
    execute(here.cache, outcome());
    await pass(1);
    for (const process of [here, aProcess({ shared: cache })]) {
      expect(await find(process.cache, identity(1, 2))).toBeUndefined();
      expect(await find(process.cache, identity(2, 1))).toBeUndefined();
    }
    expect(await find(aProcess({ shared: cache, space: 'a2' }).cache)).toBeUndefined();
    expect(await find(here.cache)).toBe('memory: paid');
  });

  it("takes no other record's entry, and tells of it, removes it and keeps the next answer", async () => {
    const { cache, held } = sharedCache();
    const here = aProcess({ shared: cache });
    execute(here.cache, outcome());
    execute(here.cache, outcome('refunded'), identity(2));
    await pass(1);
    const [mine, others] = [...held.keys()] as [string, string];
    for (const value of [held.get(others)?.value, Buffer.from('garbage'), Buffer.alloc(0)]) {
      held.set(mine, { value: value as Buffer, until: Infinity });
      expect(await find(here.cache)).toBeUndefined();
      expect(here.events.at(-1)).toMatchObject({
        type: 'cache-entry-refused',
        cache: 'double',
        keyHash: one.keyHash.toString('hex'),
      });
      await pass(1);
      expect(held.has(mine)).toBe(false);
      here.cache.beginLook(one)(outcome());
      await pass(1);
      expect(await find(here.cache)).toBe('shared: paid');
    }
    expect(here.events).toHaveLength(3);
  });

  describe('time', () => {
    it('asks the cache to keep a copy for no longer than the record has left', async () => {
      const { cache, ttl } = sharedCache();
      const here = aProcess({ shared: cache });
      const kept = outcome('paid', 10_000);
      await pass(4_000);
      execute(here.cache, kept);
      await pass(1);
      expect(ttl()).toBeLessThanOrEqual(6_000);
      expect(ttl()).toBeGreaterThan(5_900);
    });

    it('replays no copy of an expired record, from memory or from a cache that keeps it for longer', async () => {
      const { cache, held } = sharedCache();
      const here = aProcess({ shared: cache, memory: true });
      const there = aProcess({ shared: cache });
      execute(here.cache, outcome('paid', 10_000));
      await pass(1);
      for (const entry of held.values()) entry.until = Infinity;
      await pass(9_998);
      expect([await find(here.cache), await find(there.cache)]).toEqual(['memory: paid', 'shared: paid']);
      await pass(1);
      expect([await find(here.cache), await find(there.cache)]).toEqual([undefined, undefined]);
    });

    it('does not replay what expired while the shared cache took its time', async () => {
      const { cache } = sharedCache();
      const { get } = cache;
      const here = aProcess({
        shared: {
          ...cache,
          get: (key) => new Promise((resolve) => setTimeout(() => resolve(get(key)), 30)),
        },
      });
      execute(here.cache, outcome('paid', 1_000));
      await pass(980);
      const late = find(here.cache);
      await pass(31);
      expect(await late).toBeUndefined();
    });

    it('keeps nothing of a record that has expired', async () => {
      const { cache, held } = sharedCache();
      const here = aProcess({ shared: cache, memory: true });
      for (const lifeMs of [0, -1, 0.5]) execute(here.cache, outcome('paid', lifeMs));
      await pass(1);
      expect([...held]).toEqual([]);
      expect(await find(here.cache)).toBeUndefined();
    });

    it('neither asks nor keeps while it does not know what time it is in the database', async () => {
      const { cache, asked, held } = sharedCache();
      const here = aProcess({ shared: cache, memory: true });
      execute(here.cache, outcome('paid', 3_600_000));
      await pass(60_001);
      expect(await find(here.cache)).toBeUndefined();
      execute(here.cache, outcome(), identity(2));
      await pass(1);
      expect(asked).toEqual([]);
      expect([...held]).toHaveLength(1);
      here.hear();
      expect(await find(here.cache)).toBe('memory: paid');
      vi.setSystemTime(Date.now() + 3_600_000);
      expect(await find(here.cache)).toBeUndefined();
    });
  });

  it('asks the shared cache once for any number of requests at a time', async () => {
    const { cache, asked } = sharedCache();
    const there = aProcess({ shared: cache });
    execute(aProcess({ shared: cache }).cache, outcome());
    await pass(1);
    const answers = await Promise.all(Array.from({ length: 50 }, () => find(there.cache)));
    expect(new Set(answers)).toEqual(new Set(['shared: paid']));
    expect(asked).toHaveLength(1);
  });

  it('never rejects, and is over in time, when the shared cache does not work', async () => {
    const broken = (): never => {
      throw new Error('broken');
    };
    const never = (): Promise<never> => new Promise(() => undefined);
    for (const fails of [broken, never]) {
      const { cache } = aProcess({
        shared: sharedCache({ get: fails, set: fails, delete: fails, nodeOf: () => 'a' }).cache,
      });
      const found = find(cache);
      await pass(51);
      expect(await found).toBeUndefined();
      const end = cache.begin(one, () => true);
      await pass(100);
      end(outcome());
      const erased = cache.erase(one.keyHash);
      await pass(51);
      expect(await erased).toBe(false);
    }
  });

  describe('a look at the database', () => {
    it('puts back what the caches have lost', async () => {
      const { cache, held } = sharedCache();
      const here = aProcess({ shared: cache, memory: true });
      here.cache.beginLook(one)(outcome());
      await pass(1);
      expect(await find(here.cache)).toBe('memory: paid');
      expect(await find(aProcess({ shared: cache }).cache)).toBe('shared: paid');
      expect(held.size).toBe(1);
    });

    it('keeps nothing of a record that is in flight, or came to nothing', async () => {
      const { cache, held } = sharedCache();
      const here = aProcess({ shared: cache, memory: true });
      here.cache.beginLook(one)('in-flight');
      here.cache.beginLook(one)(undefined);
      await pass(1);
      expect([...held]).toEqual([]);
      expect(await find(here.cache)).toBeUndefined();
    });

    it('answers duplicates for a moment when it found the record in flight', async () => {
      const here = aProcess({ memory: true });
      here.cache.beginLook(one)('in-flight');
      expect(await find(here.cache)).toBe('in-flight');
      expect(await find(here.cache, identity(1, 2))).toBeUndefined();
      await pass(101);
      expect(await find(here.cache)).toBeUndefined();
    });

    it('ends that moment when it finds an outcome, or an end without one', async () => {
      const here = aProcess({ memory: true });
      here.cache.beginLook(one)('in-flight');
      here.cache.beginLook(one)(undefined);
      expect(await find(here.cache)).toBeUndefined();
      here.cache.beginLook(one)('in-flight');
      here.cache.beginLook(one)(outcome());
      expect(await find(here.cache)).toBe('memory: paid');
    });

    it('counts for less than an outcome that another process has shared meanwhile', async () => {
      const { cache } = sharedCache();
      const here = aProcess({ shared: cache, memory: true });
      here.cache.beginLook(one)('in-flight');
      expect(await find(here.cache)).toBe('in-flight');
      aProcess({ shared: cache }).cache.begin(one, () => true)(outcome());
      await pass(1);
      expect(await find(here.cache)).toBe('shared: paid');
    });

    it('has no such moments when hints are off', async () => {
      const here = aProcess({ memory: true, inFlightMs: undefined });
      here.cache.beginLook(one)('in-flight');
      expect(await find(here.cache)).toBeUndefined();
    });
  });

  describe('erasure', () => {
    it('takes the copies out of this process and of the shared cache', async () => {
      const { cache } = sharedCache();
      const here = aProcess({ shared: cache, memory: true });
      const there = aProcess({ shared: cache });
      execute(here.cache, outcome());
      await pass(1);
      expect(await here.cache.erase(one.keyHash)).toBe(true);
      expect([await find(here.cache), await find(there.cache)]).toEqual([undefined, undefined]);
    });

    it('says when the shared cache could not be told', async () => {
      const { cache } = sharedCache({ set: () => Promise.reject(new Error('ECONNREFUSED')) });
      expect(await aProcess({ shared: cache }).cache.erase(one.keyHash)).toBe(false);
      expect(await aProcess({ memory: true }).cache.erase(one.keyHash)).toBe(true);
    });

    it('lets nobody who read the record before it put anything back, here or elsewhere', async () => {
      const { cache } = sharedCache();
      const here = aProcess({ shared: cache, memory: true });
      const there = aProcess({ shared: cache });
      const looks = [here, there].map((process) => process.cache.beginLook(one));
      await here.cache.erase(one.keyHash);
      for (const look of looks) look(outcome());
      await pass(1);
      expect([await find(here.cache), await find(there.cache)]).toEqual([undefined, undefined]);
      // For as long as any reader may have taken.
      await pass(3_500_000);
      there.hear();
      there.cache.beginLook(one)(outcome());
      await pass(1);
      expect(await find(there.cache)).toBeUndefined();
    });

    it('lets nobody at this process take into its memory what the shared cache had answered before', async () => {
      const { cache } = sharedCache();
      const slow = (key: string): Promise<Uint8Array | undefined> => {
        const answer = cache.get(key);
        return new Promise((resolve) => setTimeout(() => resolve(answer), 20));
      };
      const here = aProcess({ shared: { ...cache, get: slow }, memory: true });
      execute(aProcess({ shared: cache }).cache, outcome());
      await pass(1);
      const reading = find(here.cache);
      await pass(5);
      await here.cache.erase(one.keyHash);
      const joining = find(here.cache);
      await pass(21);
      expect([await reading, await joining]).toEqual([undefined, undefined]);
      const after = find(here.cache);
      await pass(21);
      expect(await after).toBeUndefined();
    });

    it('is not undone by the outcome of a quick attempt that arrives late', async () => {
      const { cache } = sharedCache();
      const here = aProcess({ shared: cache });
      const end = here.cache.begin(one, () => true);
      await aProcess({ shared: cache }).cache.erase(one.keyHash);
      end(outcome());
      await pass(1);
      expect(await find(here.cache)).toBeUndefined();
    });
  });
});
