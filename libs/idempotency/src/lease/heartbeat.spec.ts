import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Heartbeat } from './heartbeat.js';

const LEASE_MS = 3_000;
const THIRD_MS = LEASE_MS / 3;

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] }));
afterEach(() => void vi.useRealTimers());

/** A heartbeat over a database that answers from a script, the last answer for ever, `delayMs` after it is asked. */
function beating(script: (boolean | Error)[] = [true], { delayMs = 0 } = {}) {
  const began = performance.now();
  const beats: number[] = [];
  const errors: unknown[] = [];
  const onLost = vi.fn();
  const answer = (): Promise<boolean> => {
    const found = script[Math.min(beats.length, script.length) - 1] ?? true;
    if (delayMs === 0) return found instanceof Error ? Promise.reject(found) : Promise.resolve(found);
    return new Promise((resolve, reject) => {
      setTimeout(() => (found instanceof Error ? reject(found) : resolve(found)), delayMs);
    });
  };
  const heartbeat = new Heartbeat(
    {
      leaseMs: LEASE_MS,
      renew: () => {
        beats.push(performance.now() - began);
        return answer();
      },
      onLost,
      onError: (error) => errors.push(error),
    },
    began,
  );
  return { heartbeat, beats, errors, onLost };
}
const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);
const down = new Error('the database is down');

describe('a heartbeat', () => {
  it('beats every third of the lease, which stays certain', async () => {
    const { heartbeat, beats, onLost, errors } = beating();
    for (let ms = 0; ms < 4 * LEASE_MS; ms += 100) {
      expect(heartbeat.isCertain).toBe(true);
      await pass(100);
    }
    expect(beats).toHaveLength(12);
    expect(beats.slice(0, 3)).toEqual([THIRD_MS, 2 * THIRD_MS, 3 * THIRD_MS]);
    expect(onLost).not.toHaveBeenCalled();
    expect(errors).toEqual([]);
  });

  it('tells of an error and tries again sooner, until it is answered', async () => {
    const { heartbeat, beats, errors, onLost } = beating([down, down, true]);
    await pass(THIRD_MS + 0.3 * LEASE_MS);
    expect(beats).toEqual([1_000, 1_300, 1_600]);
    expect(errors).toEqual([down, down]);
    expect(heartbeat.isCertain).toBe(true);
    await pass(THIRD_MS);
    expect(beats).toEqual([1_000, 1_300, 1_600, 2_600]);
    expect(onLost).not.toHaveBeenCalled();
  });

  it('is not certain any more when the lease has run out unanswered, and is certain again with an answer', async () => {
    const script: (boolean | Error)[] = Array.from({ length: 8 }, () => down);
    const { heartbeat, onLost } = beating([...script, true]);
    await pass(LEASE_MS - 1);
    expect(heartbeat.isCertain).toBe(true);
    await pass(1);
    expect([heartbeat.isCertain, heartbeat.isLost]).toEqual([false, false]);
    await pass(LEASE_MS);
    expect(heartbeat.isCertain).toBe(true);
    expect(onLost).not.toHaveBeenCalled();
  });

  it('counts the lease from before the statement was sent', async () => {
    const { heartbeat } = beating([true, down], { delayMs: 500 });
    await pass(1_500);
    // Renewed at 1000, answered at 1500.
    await pass(2_499);
    expect(heartbeat.isCertain).toBe(true);
    await pass(1);
    expect(heartbeat.isCertain).toBe(false);
  });

  it('counts the lease of a claim from when it was sent, not from its answer', async () => {
    const heartbeat = new Heartbeat(
      { leaseMs: LEASE_MS, renew: () => Promise.resolve(true), onLost: vi.fn(), onError: vi.fn() },
      performance.now() - LEASE_MS + 10,
    );
    expect(heartbeat.isCertain).toBe(true);
    await pass(10);
    expect(heartbeat.isCertain).toBe(false);
    heartbeat.stop();
  });

  it('is not moved by a step of the wall clock', () => {
    const { heartbeat } = beating();
    vi.setSystemTime(Date.now() + 3_600_000);
    expect(heartbeat.isCertain).toBe(true);
    vi.setSystemTime(Date.now() - 7_200_000);
    expect(heartbeat.isCertain).toBe(true);
  });

  it('never shortens what is certain: an older write of the attempt may be answered later', () => {
    const { heartbeat } = beating();
    const now = performance.now();
    heartbeat.renewed(now + 1_000);
    heartbeat.renewed(now);
    vi.advanceTimersByTime(LEASE_MS + 999);
    expect(heartbeat.isCertain).toBe(true);
  });

  it('tells once that the lease is lost, and beats no more', async () => {
    const { heartbeat, beats, onLost } = beating([false]);
    await pass(THIRD_MS);
    expect(onLost).toHaveBeenCalledTimes(1);
    expect([heartbeat.isLost, heartbeat.isStopped, heartbeat.isCertain]).toEqual([true, true, false]);
    heartbeat.lost();
    expect(await heartbeat.renew()).toBe(false);
    await pass(LEASE_MS);
    expect(onLost).toHaveBeenCalledTimes(1);
    expect(beats).toHaveLength(1);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('renews when it is asked to, and passes on that nobody knows', async () => {
    const { heartbeat, beats, errors } = beating([down, true]);
    const failing = expect(heartbeat.renew()).rejects.toBe(down);
    await pass(0);
    await failing;
    const asked = heartbeat.renew();
    await pass(0);
    expect(await asked).toBe(true);
    expect(beats).toEqual([0, 0]);
    expect(errors).toEqual([]);
  });

  it('stops', async () => {
    const { heartbeat, beats } = beating();
    await pass(THIRD_MS);
    heartbeat.stop();
    await pass(LEASE_MS);
    expect(beats).toHaveLength(1);
    expect(heartbeat.isStopped).toBe(true);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('stops while a renewal is on its way, whose answer begins no other', async () => {
    const { heartbeat, beats } = beating([true], { delayMs: 500 });
    await pass(THIRD_MS);
    heartbeat.stop();
    await pass(2 * LEASE_MS);
    expect(beats).toHaveLength(1);
  });

  describe('of an attempt whose outcome is on its way', () => {
    it('keeps the lease until that is written', async () => {
      const { heartbeat, beats } = beating();
      heartbeat.finish();
      await pass(LEASE_MS);
      expect(beats).toHaveLength(3);
      expect(heartbeat.isCertain).toBe(true);
    });

    it.each(['finish', 'stop'] as const)(
      'takes no renewal that found it written for a loss (%s)',
      async (end) => {
        const { heartbeat, onLost } = beating([false], { delayMs: 100 });
        await pass(THIRD_MS);
        heartbeat[end]();
        await pass(100);
        expect(onLost).not.toHaveBeenCalled();
        expect(heartbeat.isLost).toBe(false);
      },
    );

    it('is lost when the outcome itself says so', () => {
      const { heartbeat, onLost } = beating();
      heartbeat.finish();
      heartbeat.lost();
      expect(onLost).toHaveBeenCalledTimes(1);
    });
  });

  describe('that is held', () => {
    it('keeps renewals back, and renews at once when one is overdue', async () => {
      const { heartbeat, beats } = beating();
      const letGo = await heartbeat.hold();
      await pass(2 * LEASE_MS);
      expect(beats).toEqual([]);
      letGo();
      await pass(0);
      expect(beats).toEqual([2 * LEASE_MS]);
    });

    it('renews a third after the last renewal, which may have been the phase itself', async () => {
      const { heartbeat, beats } = beating();
      const letGo = await heartbeat.hold();
      await pass(THIRD_MS / 2);
      letGo();
      await pass(THIRD_MS / 2);
      const letGoAgain = await heartbeat.hold();
      const sentAt = performance.now();
      await pass(2 * THIRD_MS);
      heartbeat.renewed(sentAt + 1.5 * THIRD_MS);
      letGoAgain();
      await pass(THIRD_MS / 2);
      expect(beats).toEqual([THIRD_MS, 3.5 * THIRD_MS]);
    });

    it('stays held until everyone has let go, who may do so more than once', async () => {
      const { heartbeat, beats } = beating();
      const [first, second] = [await heartbeat.hold(), await heartbeat.hold()];
      first();
      first();
      await pass(LEASE_MS);
      expect(beats).toEqual([]);
      second();
      await pass(0);
      expect(beats).toHaveLength(1);
    });

    it('is not begun again by a renewal that was on its way', async () => {
      const { heartbeat, beats } = beating([true], { delayMs: 500 });
      await pass(THIRD_MS);
      void heartbeat.hold();
      await pass(2 * LEASE_MS);
      expect(beats).toHaveLength(1);
    });

    it('is not held before the renewal under way is answered, which would wait for the row', async () => {
      const { heartbeat } = beating([true], { delayMs: 500 });
      await pass(THIRD_MS);
      let isHeld = false;
      void heartbeat.hold().then(() => (isHeld = true));
      await pass(499);
      expect(isHeld).toBe(false);
      await pass(1);
      expect(isHeld).toBe(true);
    });

    it('stays stopped when it is let go', async () => {
      const { heartbeat, beats } = beating();
      const letGo = await heartbeat.hold();
      heartbeat.stop();
      letGo();
      await pass(2 * LEASE_MS);
      expect(beats).toEqual([]);
      expect(vi.getTimerCount()).toBe(0);
    });
  });
});
