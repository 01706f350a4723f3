import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Deadline } from './deadline.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] }));
afterEach(() => void vi.useRealTimers());

describe('Deadline', () => {
  it('counts down on the monotonic clock', () => {
    const deadline = new Deadline(100);
    expect(deadline.remainingMs).toBe(100);
    vi.advanceTimersByTime(40);
    expect(deadline.remainingMs).toBe(60);
    expect(deadline.isOver).toBe(false);
    vi.advanceTimersByTime(60);
    expect(deadline.isOver).toBe(true);
    vi.advanceTimersByTime(60);
    expect(deadline.remainingMs).toBe(0);
  });

  it('is not moved by a step of the wall clock', () => {
    const deadline = new Deadline(100);
    vi.setSystemTime(Date.now() + 3_600_000);
    expect(deadline.remainingMs).toBe(100);
  });

  it('answers what the work answers, and leaves no timer behind', async () => {
    await expect(new Deadline(100).race(Promise.resolve('done'))).resolves.toBe('done');
    await expect(new Deadline(100).race(Promise.reject(new Error('failed')))).rejects.toThrow('failed');
    expect(vi.getTimerCount()).toBe(0);
  });

  it('answers over when the work does not come in time', async () => {
    const raced = new Deadline(100).race(new Promise<never>(() => undefined));
    await vi.advanceTimersByTimeAsync(99);
    expect(vi.getTimerCount()).toBe(1);
    await vi.advanceTimersByTimeAsync(1);
    await expect(raced).resolves.toBe('over');
  });

  it('answers over at once when it is past', async () => {
    const deadline = new Deadline(0);
    const raced = deadline.race(new Promise<never>(() => undefined));
    await vi.advanceTimersByTimeAsync(0);
    await expect(raced).resolves.toBe('over');
  });
});
