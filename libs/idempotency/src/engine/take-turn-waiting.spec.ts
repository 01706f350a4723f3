import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { IDENTITY, PAID, POLICY } from '../../../../test/support/engine-script.js';
import type { ReplayCache } from '../cache/replay-cache.js';
import type { Answered } from './answered.js';
import { InFlightRegistry } from './in-flight.registry.js';
import { Looks } from './looks.js';
import type { AttemptPolicy } from './policy.js';
import { beginTurn, takeTurn, type Turns } from './take-turn.js';
import { WaiterSlots } from './waiter-slots.js';

const WAITING: AttemptPolicy = { ...POLICY, onInFlight: 'wait', waitTimeoutMs: 1_000 };
const inFlight: Answered = { kind: 'in-flight' };
const owned = { kind: 'owned' } as const;
const final = { kind: 'final', raised: true, response: PAID } as const;
const never = (): Promise<never> => Promise.reject(new Error('the database must not be asked'));

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }));
afterEach(() => void vi.useRealTimers());

const turns = (cache?: Partial<ReplayCache>): Turns => ({
  inFlight: new InFlightRegistry(),
  waiters: new WaiterSlots(1),
  looks: new Looks(),
  cache: cache as ReplayCache | undefined,
});

describe('a duplicate of an attempt of this process', () => {
  const begun = () => {
    const parts = turns();
    return { parts, share: beginTurn(parts, IDENTITY, () => true) };
  };

  it('is refused at once, where it does not wait', async () => {
    const { parts } = begun();
    expect(await takeTurn(parts, IDENTITY, POLICY, never)).toEqual(inFlight);
  });

  it('is key reuse with another payload, whether it would wait or not', async () => {
    const { parts } = begun();
    const other = { ...IDENTITY, fingerprint: Buffer.alloc(32, 7) };
    for (const policy of [POLICY, WAITING]) {
      expect(await takeTurn(parts, other, policy, never)).toEqual({ kind: 'reused' });
    }
  });

  it('is answered with its outcome, where it waits', async () => {
    const { parts, share } = begun();
    const waiting = takeTurn(parts, IDENTITY, WAITING, never);
    await vi.advanceTimersByTimeAsync(500);
    share(final);
    expect(await waiting).toEqual({ kind: 'replay', raised: true, response: PAID, source: 'process' });
  });

  it('is refused when the wait is over', async () => {
    const { parts } = begun();
    const answered = vi.fn();
    const waiting = takeTurn(parts, IDENTITY, WAITING, never).then(answered);
    await vi.advanceTimersByTimeAsync(999);
    expect(answered).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(1);
    await waiting;
    expect(answered).toHaveBeenCalledExactlyOnceWith(inFlight);
  });

  it('asks the database when that attempt came to nothing', async () => {
    const { parts, share } = begun();
    const look = vi.fn(() => Promise.resolve(owned));
    const waiting = takeTurn(parts, IDENTITY, WAITING, look);
    await vi.advanceTimersByTimeAsync(1);
    expect(look).not.toHaveBeenCalled();
    share({ kind: 'none' });
    expect(await waiting).toBe(owned);
  });
});

describe('a duplicate of an attempt of another process', () => {
  it('is refused at once, where it does not wait', async () => {
    const look = vi.fn((_wait?: unknown) => Promise.resolve(inFlight));
    expect(await takeTurn(turns(), IDENTITY, POLICY, look)).toBe(inFlight);
    expect(look).toHaveBeenCalledExactlyOnceWith();
  });

  it('asks once more, for as long as it may wait', async () => {
    const look = vi.fn((wait?: unknown) => Promise.resolve(wait ? owned : inFlight));
    expect(await takeTurn(turns(), IDENTITY, WAITING, look)).toBe(owned);
    expect(look).toHaveBeenCalledTimes(2);
    expect(look.mock.calls[1]?.[0]).toMatchObject({ remainingMs: 1_000 });
  });

  it('waits in this process for an attempt that this one has begun meanwhile', async () => {
    const parts = turns();
    const look = vi.fn(() => {
      const share = beginTurn(parts, IDENTITY, () => true);
      setTimeout(() => share(final), 100);
      return Promise.resolve(inFlight);
    });
    const waiting = takeTurn(parts, IDENTITY, WAITING, look);
    await vi.advanceTimersByTimeAsync(100);
    expect(await waiting).toMatchObject({ kind: 'replay', source: 'process' });
    expect(look).toHaveBeenCalledTimes(1);
  });

  it('is refused when another one still waits for its key at its deadline', async () => {
    const parts = turns();
    const look = vi.fn((wait?: unknown): Promise<Answered> =>
      wait ? new Promise(() => undefined) : Promise.resolve(inFlight),
    );
    void takeTurn(parts, IDENTITY, { ...WAITING, waitTimeoutMs: 10_000 }, look);
    await vi.advanceTimersByTimeAsync(1);
    const waiting = takeTurn(parts, IDENTITY, WAITING, look);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(await waiting).toBe(inFlight);
  });

  it('is refused, without another question, when that one has ended at its deadline', async () => {
    const parts = turns();
    const look = vi.fn(async (wait?: unknown): Promise<Answered> => {
      if (wait) await new Promise<void>((resolve) => setTimeout(resolve, 1_000));
      return inFlight;
    });
    void takeTurn(parts, IDENTITY, { ...WAITING, waitTimeoutMs: 10_000 }, look);
    await vi.advanceTimersByTimeAsync(0);
    const waiting = takeTurn(parts, IDENTITY, WAITING, look);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(await waiting).toBe(inFlight);
    // One of this one, and two of the one that it shared.
    expect(look).toHaveBeenCalledTimes(3);
  });

  it('is refused when no connection is left to wait with', async () => {
    const parts = { ...turns(), waiters: new WaiterSlots(0) };
    const look = vi.fn(() => Promise.resolve(inFlight));
    const waiting = takeTurn(parts, IDENTITY, WAITING, look);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(await waiting).toBe(inFlight);
    expect(look).toHaveBeenCalledTimes(1);
  });

  it('goes by a hint at once, whoever is asking the database', async () => {
    const parts = turns({ find: () => Promise.resolve({ kind: 'in-flight' }) });
    void parts.looks.run(IDENTITY, () => new Promise(() => undefined));
    expect(await takeTurn(parts, IDENTITY, POLICY, never)).toEqual(inFlight);
  });
});
