import { describe, expect, it, vi } from 'vitest';
import {
  aProcess,
  execute,
  find,
  identity,
  one,
  outcome,
  pass,
  sharedCache,
  useFakedTime,
} from '../../../../test/support/replay-cache.js';
import type { KeptOutcome } from './replay-cache.js';
import type { SharedCache } from './shared-cache.js';

useFakedTime();

interface RunningOptions extends Partial<SharedCache> {
  readonly isHeld?: () => boolean;
  readonly hints?: boolean;
}

describe('a replay cache', () => {
  describe('a hint', () => {
    /** Two processes with one shared cache; an attempt begins at the first. */
    async function running({ isHeld = () => true, hints = true, ...parts }: RunningOptions = {}) {
      const inFlightMs = hints ? 2_000 : undefined;
      const shared = sharedCache(parts);
      const here = aProcess({ shared: shared.cache, inFlightMs });
      const there = aProcess({ shared: shared.cache, inFlightMs });
      const end = here.cache.begin(one, isHeld);
      await pass(25);
      return { ...shared, here, there, end };
    }

    it('is given for a handler that takes its time, and to that payload alone', async () => {
      const { there, end, ttl } = await running();
      expect(await find(there.cache)).toBe('in-flight');
      expect(await find(there.cache, identity(1, 2))).toBeUndefined();
      expect(ttl()).toBeLessThanOrEqual(2_000);
      end(undefined);
    });

    it('is believed for 20 ms without asking when there are many duplicates, and by one who asks now and then not at all', async () => {
      const { cache, there, end } = await running();
      const ask = vi.spyOn(cache, 'get');
      expect(await find(there.cache)).toBe('in-flight');
      await pass(21);
      expect(await find(there.cache)).toBe('in-flight');
      expect(ask).toHaveBeenCalledTimes(2);
      for (let index = 0; index < 100; index++) expect(await find(there.cache)).toBe('in-flight');
      expect(ask).toHaveBeenCalledTimes(3);
      await pass(21);
      expect(await find(there.cache)).toBe('in-flight');
      expect(ask).toHaveBeenCalledTimes(4);
      end(outcome());
      await pass(21);
      expect(await find(there.cache)).toBe('shared: paid');
    });

    it('is not given for a handler that is quicker than 20 ms', async () => {
      const { cache, held } = sharedCache();
      const here = aProcess({ shared: cache });
      const end = here.cache.begin(one, () => true);
      await pass(19);
      expect(held.size).toBe(0);
      end(undefined);
      await pass(5_000);
      expect(held.size).toBe(0);
      expect(vi.getTimerCount()).toBe(0);
    });

    it('is given again as long as the attempt runs', async () => {
      const { there, here, end } = await running();
      for (let second = 0; second < 30; second++) {
        await pass(1_000);
        here.hear();
        there.hear();
        expect(await find(there.cache)).toBe('in-flight');
      }
      end(outcome());
      await pass(101);
      expect(await find(there.cache)).toBe('shared: paid');
      expect(vi.getTimerCount()).toBe(0);
    });

    it('ends with its life when its process dies', async () => {
      const { there, held, here } = await running();
      expect(here).toBeDefined();
      // A process that is dead writes nothing; the other side sees its last word.
      const [[key, last]] = [...held] as [[string, { value: Uint8Array; until: number }]];
      const copy = sharedCache();
      copy.held.set(key, { value: last.value, until: Infinity });
      const survivor = aProcess({ shared: copy.cache });
      expect(await find(survivor.cache)).toBe('in-flight');
      await pass(1_974);
      expect(await find(survivor.cache)).toBe('in-flight');
      await pass(125);
      // Although the cache has it still.
      expect(await find(survivor.cache)).toBeUndefined();
      expect(await find(there.cache)).toBe('in-flight');
    });

    it('is taken back when the attempt ends without an outcome: no retry is delayed at the same process', async () => {
      const { here, there, end, held } = await running();
      expect(await find(here.cache)).toBe('in-flight');
      expect(await find(there.cache)).toBe('in-flight');
      end(undefined);
      expect(await find(here.cache)).toBeUndefined();
      expect(held.size).toBe(0);
      await pass(101);
      expect(await find(there.cache)).toBeUndefined();
    });

    it('is not given, nor given again, by an attempt that does not hold its record any more', async () => {
      let isHeld = true;
      const { there, end, held } = await running({ isHeld: () => isHeld });
      isHeld = false;
      await pass(2_000);
      expect(await find(there.cache)).toBeUndefined();
      // What another attempt has put there since is left alone.
      execute(there.cache, outcome());
      await pass(4_000);
      expect(held.size).toBe(1);
      expect(await find(there.cache)).toBe('shared: paid');
      end(undefined);
    });

    it('makes way for the outcome', async () => {
      const { here, there, end } = await running();
      end(outcome());
      await pass(1);
      expect(await find(here.cache)).toBe('shared: paid');
      expect(await find(there.cache)).toBe('shared: paid');
    });

    it.each([
      ['is larger than the cache takes', { maxValueBytes: 100 }, (): KeptOutcome => outcome('x'.repeat(200))],
      ['has expired', {}, (): KeptOutcome => outcome('paid', 0)],
    ])('does not stand beside an outcome that %s', async (_, parts, made) => {
      const { there, end, held } = await running(parts);
      expect(held.size).toBe(1);
      end(made());
      await pass(1);
      expect(held.size).toBe(0);
      await pass(101);
      expect(await find(there.cache)).toBeUndefined();
    });

    it('is neither given nor taken when hints are off', async () => {
      const { held, end } = await running({ hints: false });
      expect(held.size).toBe(0);
      end(undefined);
      const giving = await running();
      const not = aProcess({ shared: giving.cache, inFlightMs: undefined });
      expect(await find(not.cache)).toBeUndefined();
      giving.end(undefined);
    });
  });
});
