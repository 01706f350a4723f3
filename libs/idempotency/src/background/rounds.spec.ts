import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Rounds } from './rounds.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

const never = (error: unknown): never => {
  throw error;
};

describe('Rounds', () => {
  it('come again after each interval, up to a tenth earlier or later', async () => {
    let count = 0;
    const rounds = new Rounds({ intervalMs: 1000, round: async () => void count++, onError: never });
    rounds.start();
    await vi.advanceTimersByTimeAsync(890);
    expect(count).toBe(0);
    await vi.advanceTimersByTimeAsync(220);
    expect(count).toBe(1);
    await vi.advanceTimersByTimeAsync(1100);
    expect(count).toBe(2);
    await rounds.stop();
    expect(vi.getTimerCount()).toBe(0);
  });

  it('begin anywhere in the interval when they are spread', async () => {
    const firsts: number[] = [];
    for (const at of [0, 0.5, 0.999]) {
      vi.spyOn(Math, 'random').mockReturnValueOnce(at);
      const began = performance.now();
      const rounds = new Rounds({
        intervalMs: 1000,
        round: async () => void firsts.push(Math.round(performance.now() - began)),
        onError: never,
        isSpread: true,
      });
      const before = firsts.length;
      rounds.start();
      while (firsts.length === before) await vi.advanceTimersByTimeAsync(1);
      await rounds.stop();
    }
    expect(firsts).toEqual([0, 500, 999]);
  });

  it('go on after one that failed, which is told', async () => {
    const errors: unknown[] = [];
    let count = 0;
    const round = (): Promise<void> => {
      count++;
      return Promise.reject(new Error(`round ${count}`));
    };
    const rounds = new Rounds({ intervalMs: 1000, round, onError: (error) => errors.push(String(error)) });
    rounds.start();
    await vi.advanceTimersByTimeAsync(2300);
    await rounds.stop();
    expect(errors).toEqual(['Error: round 1', 'Error: round 2']);
  });

  it('end by themselves, with no timer left, once there is nothing to look at', async () => {
    let count = 0;
    let isOver = false;
    const rounds = new Rounds({
      intervalMs: 1000,
      round: async () => void count++,
      onError: never,
      isOver: () => isOver,
    });
    rounds.start();
    await vi.advanceTimersByTimeAsync(1100);
    isOver = true;
    await vi.advanceTimersByTimeAsync(5000);
    expect(count).toBe(1);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('tell no error of a round under which everything was closed', async () => {
    let isOver = false;
    const rounds = new Rounds({
      intervalMs: 1000,
      round: () => {
        isOver = true;
        return Promise.reject(new Error('closed'));
      },
      onError: never,
      isOver: () => isOver,
    });
    rounds.start();
    await vi.advanceTimersByTimeAsync(3000);
    await expect(rounds.stop()).resolves.toBeUndefined();
  });

  it('are stopped before they are started, too', async () => {
    const rounds = new Rounds({ intervalMs: 1000, round: () => Promise.resolve(), onError: never });
    await rounds.stop();
    rounds.start();
    expect(vi.getTimerCount()).toBe(0);
  });
});
