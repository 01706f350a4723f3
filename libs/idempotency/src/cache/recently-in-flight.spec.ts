import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { RecentlyInFlight } from './recently-in-flight.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }));
afterEach(() => void vi.useRealTimers());

const one = Buffer.alloc(32, 1);
const other = Buffer.alloc(32, 2);

describe('RecentlyInFlight', () => {
  it('holds a word for a moment, and for its fingerprint alone', () => {
    const recent = new RecentlyInFlight(100);
    recent.note('a', one);
    expect(recent.has('a', one)).toBe(true);
    expect(recent.has('a', other)).toBe(false);
    expect(recent.has('b', one)).toBe(false);
    vi.advanceTimersByTime(99);
    expect(recent.has('a', one)).toBe(true);
    vi.advanceTimersByTime(1);
    expect(recent.has('a', one)).toBe(false);
  });

  it('forgets what it is told to', () => {
    const recent = new RecentlyInFlight(100);
    recent.note('a', one);
    recent.forget('a');
    recent.forget('a');
    expect(recent.has('a', one)).toBe(false);
  });

  it('takes the newest word of a key', () => {
    const recent = new RecentlyInFlight(100);
    recent.note('a', one);
    vi.advanceTimersByTime(60);
    recent.note('a', other);
    vi.advanceTimersByTime(60);
    expect(recent.has('a', one)).toBe(false);
    expect(recent.has('a', other)).toBe(true);
  });

  it('remembers no more than 10 000 keys at a time, the newest', () => {
    const recent = new RecentlyInFlight(100);
    for (let index = 0; index < 25_000; index++) recent.note(String(index), one);
    let held = 0;
    for (let index = 0; index < 25_000; index++) held += Number(recent.has(String(index), one));
    expect(held).toBe(10_000);
    expect(recent.has('24999', one)).toBe(true);
  });
});
