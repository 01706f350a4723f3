import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FENCE, leaseEngine } from '../../../../test/support/lease-engine.js';
import { completed, handlerOf, NAMED, PAID } from '../../../../test/support/engine-script.js';
import { armFailpoints } from '../failpoint.js';
import type { ReadRecord } from '../store/idempotency.store.js';
import type { HandlerOutcome, RunHandler } from './outcomes.js';

const failed = new Error('the handler failed');
const released: HandlerOutcome = { kind: 'release', error: failed };
const silent = <T>(): Promise<T> => new Promise(() => undefined);
const unavailable = new Error('ECONNREFUSED');
const gone = () => Promise.resolve(false as const);

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }));
afterEach(() => void vi.useRealTimers());

/** Answers at last, after one answer was lost. */
const lostOnce = <T>(answer: T) =>
  vi
    .fn<() => Promise<T>>(() => Promise.resolve(answer))
    .mockRejectedValueOnce(new Error('Connection terminated'));

/** What becomes of an attempt while its retries wait for their turn. */
async function passing<T>(answer: Promise<T>): Promise<T> {
  await vi.advanceTimersByTimeAsync(12_000);
  return answer;
}

/** A handler that runs for longer than `maxRuntime`, until it is told to end. */
async function outlive(run: ReturnType<typeof leaseEngine>['run']) {
  let end!: () => void;
  const answer = run(
    async (attempt) => {
      await new Promise<void>((resolve) => (end = resolve));
      return handlerOf(completed)(attempt);
    },
    { maxRuntimeMs: 1_000 },
  );
  await vi.advanceTimersByTimeAsync(1_000);
  return { answer, end };
}

describe('an outcome that the fence stops', () => {
  const replayed: ReadRecord = { state: 'final', raised: false, response: PAID, expiresAtMs: 5 };

  it('is replaced by what stands in the record', async () => {
    const read = vi.fn(() => Promise.resolve(replayed));
    const { run, events, parts, opened } = leaseEngine({ complete: gone, read });
    expect(await run(handlerOf(completed))).toEqual({ kind: 'replay', raised: false, response: PAID });
    expect(read).toHaveBeenCalledExactlyOnceWith(
      opened[2]?.session,
      expect.objectContaining({ key: 'order-41' }),
    );
    expect(events).toEqual([
      { type: 'claimed', attempt: 1, ...NAMED },
      { type: 'lease-lost', attempt: 1, ...NAMED },
      { type: 'replayed', status: 201, source: 'record', ...NAMED },
    ]);
    expect(parts.afterCommit).not.toHaveBeenCalled();
  });

  it('is replaced in the same way after a failure', async () => {
    const read = () => Promise.resolve(replayed);
    const { run, events } = leaseEngine({ release: gone, read });
    expect(await run(handlerOf(released))).toEqual({ kind: 'replay', raised: false, response: PAID });
    expect(events.map(({ type }) => type)).toEqual(['claimed', 'lease-lost', 'replayed']);
  });

  it.each<[string, HandlerOutcome, ReadRecord, string]>([
    ['decided', completed, { state: 'absent' }, 'the record was decided by another attempt'],
    ['left', released, { state: 'released' }, 'the record was left by another attempt'],
    [
      'left once more',
      released,
      { state: 'unowned', abandoned: 0 },
      'the record was left by another attempt',
    ],
  ])('is unknown when the record was %s', async (_what, outcome, record, message) => {
    const { run } = leaseEngine({ complete: gone, release: gone, read: () => Promise.resolve(record) });
    expect(await run(handlerOf(outcome))).toEqual({
      kind: 'failed',
      reason: 'outcome-unknown',
      cause: new Error(message),
    });
  });

  it('is undecided where nobody goes on with the record', async () => {
    const read = () => Promise.resolve({ state: 'unowned', abandoned: 2 } as const);
    const { run } = leaseEngine({ complete: gone, read });
    expect(await run(handlerOf(completed))).toEqual({ kind: 'rejected', reason: 'undecided' });
  });

  it('is unknown when the record cannot be read', async () => {
    const { run } = leaseEngine({ complete: gone, read: () => Promise.reject(unavailable) });
    expect(await run(handlerOf(completed))).toEqual({
      kind: 'failed',
      reason: 'outcome-unknown',
      cause: unavailable,
    });
  });
});

describe('an outcome whose first answer was lost', () => {
  it('is sent again, and found to be its own by the number in the record', async () => {
    const complete = lostOnce<false>(false);
    const isWritten = vi.fn(() => Promise.resolve(true));
    const { run, opened, events } = leaseEngine({ complete, isWritten });
    expect(await passing(run(handlerOf(completed)))).toEqual({ kind: 'executed', attempt: 1 });
    expect(isWritten).toHaveBeenCalledExactlyOnceWith(opened.at(-1)?.session, FENCE);
    expect(events.map(({ type }) => type)).toEqual(['claimed', 'completed']);
  });

  it("is another attempt's when the number is another one", async () => {
    const { run, events } = leaseEngine({ complete: lostOnce<false>(false), isWritten: gone });
    expect(await passing(run(handlerOf(completed)))).toEqual({ kind: 'rejected', reason: 'in-flight' });
    expect(events.map(({ type }) => type)).toEqual(['claimed', 'lease-lost']);
  });

  it('is never taken for its own when it was sent once', async () => {
    const isWritten = vi.fn(() => Promise.resolve(true));
    const { run } = leaseEngine({ complete: gone, isWritten });
    expect(await run(handlerOf(completed))).toMatchObject({ kind: 'rejected' });
    expect(isWritten).not.toHaveBeenCalled();
  });

  it('is found by the absence of the record where that was to be removed', async () => {
    const never: RunHandler = () => Promise.resolve(released);
    const { run, events } = leaseEngine({ forget: lostOnce(false), isWritten: gone });
    expect(await passing(run(never))).toEqual({ kind: 'released', error: failed });
    expect(events.map(({ type }) => type)).toEqual(['claimed', 'released']);
    const other = leaseEngine({ forget: lostOnce(false), isWritten: () => Promise.resolve(true) });
    expect(await passing(other.run(never))).toEqual({ kind: 'rejected', reason: 'in-flight' });
  });
});

describe('an outcome that cannot be recorded', () => {
  it('is unknown after ten seconds', async () => {
    const complete = vi.fn(() => Promise.reject(unavailable));
    const { run, events, inFlight } = leaseEngine({ complete });
    const answer = run(handlerOf(completed));
    await vi.advanceTimersByTimeAsync(9_900);
    expect(inFlight.size).toBe(1);
    expect(await passing(answer)).toEqual({ kind: 'failed', reason: 'outcome-unknown', cause: unavailable });
    expect(events).toEqual([
      { type: 'claimed', attempt: 1, ...NAMED },
      { type: 'unknown', attempt: 1, resolution: 'unresolved', ...NAMED },
    ]);
    expect(inFlight.size).toBe(0);
  });

  it('leaves the handler its own error when it was a failure: the lease runs out', async () => {
    const { run, events } = leaseEngine({ release: () => Promise.reject(unavailable) });
    expect(await passing(run(handlerOf(released)))).toEqual({ kind: 'released', error: failed });
    expect(events.map(({ type }) => type)).toEqual(['claimed']);
  });

  it('is given up on a connection that does not answer within acquireTimeout', async () => {
    const complete = vi
      .fn(silent<false>)
      .mockImplementationOnce(silent)
      .mockResolvedValue(false);
    const { run, opened } = leaseEngine({ complete, isWritten: () => Promise.resolve(true) });
    const answer = run(handlerOf(completed));
    await vi.advanceTimersByTimeAsync(100);
    expect(opened[1]?.session.isLost).toBe(true);
    expect(await passing(answer)).toMatchObject({ kind: 'executed' });
  });
});

describe('the lease of an attempt', () => {
  const renewing = (renew: () => Promise<boolean>) => leaseEngine({ renew: vi.fn(renew) });

  it('is renewed every third of it, until the outcome is recorded', async () => {
    const { run, store, opened } = renewing(() => Promise.resolve(true));
    await run(async (attempt) => {
      await vi.advanceTimersByTimeAsync(9_999);
      expect(store.renew).not.toHaveBeenCalled();
      await vi.advanceTimersByTimeAsync(1);
      expect(store.renew).toHaveBeenCalledExactlyOnceWith(opened[1]?.session, FENCE, 30_000);
      return handlerOf(completed)(attempt);
    });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(store.renew).toHaveBeenCalledTimes(1);
  });

  it('is not renewed once the engine has stopped', async () => {
    const { run, store, engine } = renewing(() => Promise.resolve(true));
    await run(async (attempt) => {
      engine.stop();
      await vi.advanceTimersByTimeAsync(20_000);
      return handlerOf(completed)(attempt);
    });
    expect(store.renew).not.toHaveBeenCalled();
  });

  it('that is lost ends the attempt, says so once, and lets duplicates ask the database', async () => {
    const { run, events, inFlight } = renewing(() => Promise.resolve(false));
    let reason: unknown;
    let shared: unknown;
    await run(async (attempt) => {
      shared = inFlight.find(FENCE.keyHash)?.outcome;
      await vi.advanceTimersByTimeAsync(10_000);
      reason = attempt.signal.reason;
      expect(inFlight.size).toBe(0);
      return handlerOf(completed)(attempt);
    });
    expect(await shared).toEqual({ kind: 'none' });
    expect(reason).toEqual(new Error('the lease was lost'));
    expect(events.filter(({ type }) => type === 'lease-lost')).toEqual([
      { type: 'lease-lost', attempt: 1, ...NAMED },
    ]);
  });

  it('says that a renewal failed, and renews on', async () => {
    const { run, events } = renewing(() => Promise.reject(unavailable));
    await run(async (attempt) => {
      await vi.advanceTimersByTimeAsync(10_000);
      return handlerOf(completed)(attempt);
    });
    expect(events[1]).toEqual({ type: 'renewal-failed', attempt: 1, error: unavailable, ...NAMED });
  });

  it.each([
    ['acquireTimeout', 30_000, 100, 100],
    ['the lease', 60, 100, 60],
    ['50 ms at least', 30, 100, 50],
  ])('is renewed within %s', async (_what, leaseMs, acquireTimeoutMs, timeoutMs) => {
    const { run, store, parts } = renewing(() => Promise.resolve(true));
    Object.assign(parts.settings, { acquireTimeoutMs });
    await run(
      async (attempt) => {
        await vi.advanceTimersByTimeAsync(leaseMs / 3);
        return handlerOf(completed)(attempt);
      },
      { leaseMs },
    );
    expect(vi.mocked(store.open).mock.calls[1]).toEqual([timeoutMs]);
  });

  it('is left alone before a failed attempt gives its key back', async () => {
    const { run, store } = leaseEngine({ release: lostOnce(true) });
    const answer = run(handlerOf(released), { leaseMs: 90 });
    await passing(answer);
    expect(store.renew).not.toHaveBeenCalled();
  });
});

describe('an attempt of lease mode that runs for longer than maxRuntime', () => {
  const overdue = new Error('the attempt ran for longer than maxRuntime (40000 ms)');

  it('is answered with an unknown outcome, and not renewed any more', async () => {
    const { run, store, events, inFlight } = leaseEngine();
    let reason: unknown;
    let duplicate: Promise<unknown> | undefined;
    const answer = run(
      async (attempt) => {
        attempt.signal.addEventListener('abort', () => (reason = attempt.signal.reason));
        return silent();
      },
      { maxRuntimeMs: 40_000 },
    );
    await vi.advanceTimersByTimeAsync(39_999);
    duplicate = inFlight.find(FENCE.keyHash)?.outcome;
    expect(store.renew).toHaveBeenCalledTimes(3);
    await vi.advanceTimersByTimeAsync(1);
    expect(await answer).toEqual({ kind: 'failed', reason: 'outcome-unknown', cause: overdue });
    expect(reason).toEqual(overdue);
    expect(await duplicate).toEqual({ kind: 'none' });
    expect(events.at(-1)).toEqual({ type: 'unknown', attempt: 1, resolution: 'unresolved', ...NAMED });
    const renewals = vi.mocked(store.renew).mock.calls.length;
    await vi.advanceTimersByTimeAsync(60_000);
    expect(store.renew).toHaveBeenCalledTimes(renewals);
  });

  it('is recorded all the same when it comes to its end before another attempt', async () => {
    const { run, store, events } = leaseEngine();
    const { answer, end } = await outlive(run);
    expect(await answer).toMatchObject({ reason: 'outcome-unknown' });
    end();
    await vi.advanceTimersByTimeAsync(0);
    expect(store.complete).toHaveBeenCalledTimes(1);
    expect(events.map(({ type }) => type)).toEqual(['claimed', 'unknown', 'completed']);
  });

  it('ends quietly when what comes after its answer fails', async () => {
    const disarm = armFailpoints((point) => {
      if (point === 'handler-returned') throw new Error('late');
    });
    try {
      const { run } = leaseEngine();
      const { answer, end } = await outlive(run);
      await answer;
      // An unhandled rejection would fail the run.
      end();
      await vi.advanceTimersByTimeAsync(0);
    } finally {
      disarm();
    }
  });
});
