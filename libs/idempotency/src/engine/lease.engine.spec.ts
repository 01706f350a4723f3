import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { claimed, FENCE, leaseEngine } from '../../../../test/support/lease-engine.js';
import {
  completed,
  EXPIRES_AT_MS,
  handlerOf,
  IDENTITY,
  NAMED,
  PAID,
} from '../../../../test/support/engine-script.js';
import { leaveUndone } from '../../../../test/support/transaction-engine.js';
import { armFailpoints } from '../failpoint.js';
import type { HandlerOutcome, RunHandler } from './outcomes.js';

const conflict = Object.assign(new Error('deadlock detected'), { code: '40P01', severity: 'ERROR' });
const outOfStock = new Error('out of stock');
const refused: HandlerOutcome = { kind: 'final', status: 'error', response: PAID, error: outOfStock };
const released: HandlerOutcome = { kind: 'release', error: outOfStock };
const never: RunHandler = () => Promise.reject(new Error('the handler must not run'));
/** A handler that has charged before it fails. */
const charging: RunHandler = async (attempt) => {
  await attempt.step('charge', () => 'ch_1');
  return handlerOf(released)(attempt);
};

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }));
afterEach(() => void vi.useRealTimers());

describe('the engine of lease mode', () => {
  it('records what its handler came to, and says so', async () => {
    const { run, store, events, opened, parts, inFlight } = leaseEngine();
    let afterCommits: unknown;
    await vi.advanceTimersByTimeAsync(1_000);
    const answer = await run(async (attempt) => {
      afterCommits = (attempt as unknown as { afterCommits: unknown }).afterCommits;
      expect(inFlight.size).toBe(1);
      // No connection is held meanwhile.
      expect(opened[0]?.giveBack).toHaveBeenCalledExactlyOnceWith(undefined);
      await vi.advanceTimersByTimeAsync(250);
      return handlerOf(completed)(attempt);
    });
    expect(answer).toEqual({ kind: 'executed', attempt: 1 });
    expect(store.complete).toHaveBeenCalledExactlyOnceWith(opened[1]?.session, FENCE, completed, 86_400_000);
    expect(events).toEqual([
      { type: 'claimed', attempt: 1, ...NAMED },
      { type: 'completed', attempt: 1, status: 201, tombstone: false, durationMs: 250, ...NAMED },
    ]);
    expect(parts.afterCommit).toHaveBeenCalledExactlyOnceWith(afterCommits);
    expect(inFlight.size).toBe(0);
  });

  it('records an error that its handler decided on, with nothing that was to run after a commit', async () => {
    const { run, events, parts } = leaseEngine();
    const tombstone = { ...refused, response: { ...PAID, body: null } } as HandlerOutcome;
    expect(await run(handlerOf(tombstone))).toMatchObject({ kind: 'executed' });
    expect(events).toContainEqual(expect.objectContaining({ type: 'completed', tombstone: true }));
    expect(parts.afterCommit).not.toHaveBeenCalled();
  });

  it('claims with the request that it is to keep', async () => {
    const { run, store } = leaseEngine();
    await run(handlerOf(completed), {}, Buffer.from('request'));
    expect(store.claim).toHaveBeenCalledWith(
      expect.anything(),
      IDENTITY,
      expect.objectContaining({ request: Buffer.from('request') }),
    );
  });

  it('says that it takes an abandoned record over, before it begins', async () => {
    const { run, events } = leaseEngine({ claim: () => Promise.resolve(claimed({ resumed: true }, 2)) });
    await run(handlerOf(completed));
    expect(events[0]).toEqual({ type: 'taken-over', attempt: 2, ...NAMED });
    expect(events.map(({ type }) => type)).toEqual(['taken-over', 'claimed', 'completed']);
  });

  it('runs nothing without the store, and says why', async () => {
    const cause = new Error('ECONNREFUSED');
    const { run, events } = leaseEngine({ open: () => Promise.reject(cause) });
    expect(await run(never)).toEqual({ kind: 'rejected', reason: 'store-unavailable', cause });
    expect(events).toEqual([]);
  });

  it('answers from the record of another attempt', async () => {
    const record = { state: 'final', raised: false, response: PAID, expiresAtMs: 5 } as const;
    const { run, events } = leaseEngine({ claim: () => Promise.resolve({ kind: 'not-claimed', record }) });
    expect(await run(never)).toEqual({ kind: 'replay', raised: false, response: PAID });
    expect(events).toEqual([{ type: 'replayed', status: 201, source: 'record', ...NAMED }]);
  });

  it.each([
    ['a success', completed, false],
    ['an error', refused, true],
  ])('shares %s with the duplicates that wait for it in this process', async (_what, outcome, raised) => {
    const { run, store } = leaseEngine();
    let duplicate: Promise<unknown> | undefined;
    await run((attempt) => {
      duplicate = run(never, { onInFlight: 'wait' });
      return handlerOf(outcome)(attempt);
    });
    expect(await duplicate).toEqual({ kind: 'replay', raised, response: PAID });
    expect(store.claim).toHaveBeenCalledTimes(1);
  });

  it('has the outcome kept until its record expires, and held by nobody whose lease may be over', async () => {
    let isHeld: (() => boolean) | undefined;
    const told: unknown[] = [];
    const { run } = leaseEngine(
      { renew: () => new Promise(() => undefined) },
      {
        find: () => Promise.resolve(undefined),
        beginLook: () => () => undefined,
        begin: (_identity, held) => {
          isHeld = held;
          return (outcome) => void told.push(outcome);
        },
      },
    );
    await run(async (attempt) => {
      await vi.advanceTimersByTimeAsync(29_999);
      expect(isHeld?.()).toBe(true);
      await vi.advanceTimersByTimeAsync(1);
      expect(isHeld?.()).toBe(false);
      return handlerOf(completed)(attempt);
    });
    expect(told).toEqual([{ expiresAtMs: EXPIRES_AT_MS, raised: false, response: PAID }]);
  });

  it('hands its attempt what it needs', async () => {
    const entry = {
      name: 'charge',
      position: 1,
      kind: 'step',
      attempt: 1,
      raised: false,
      contentType: 'application/json',
      body: Buffer.from('"ch_1"'),
    } as const;
    const { run } = leaseEngine({
      claim: () => Promise.resolve(claimed({ resumed: true, journal: [entry] }, 2)),
    });
    await run(async (attempt) => {
      expect([attempt.key, attempt.scope, attempt.number]).toEqual(['order-41', 'alice', 2]);
      expect(await attempt.step('charge', () => 'ch_2')).toBe('ch_1');
      expect(attempt.signal.aborted).toBe(false);
      return handlerOf(completed)(attempt);
    });
  });

  it('passes its failpoints in their order', async () => {
    const passed: string[] = [];
    const disarm = armFailpoints((point) => passed.push(point));
    try {
      await leaseEngine().run(handlerOf(completed));
    } finally {
      disarm();
    }
    expect(passed).toEqual(['before-claim', 'after-claim', 'handler-returned', 'commit-sent', 'committed']);
  });
});

describe('a handler of lease mode that comes to no outcome', () => {
  it('releases its key when it has left nothing behind', async () => {
    const { run, store, opened, events, inFlight } = leaseEngine();
    let shared: unknown;
    const answer = await run((attempt) => {
      shared = inFlight.find(IDENTITY.keyHash)?.outcome;
      return handlerOf(released)(attempt);
    });
    expect(answer).toEqual({ kind: 'released', error: outOfStock });
    expect(await shared).toEqual({ kind: 'none' });
    expect(store.release).toHaveBeenCalledExactlyOnceWith(opened[1]?.session, FENCE, outOfStock);
    expect(store.abandon).not.toHaveBeenCalled();
    expect(store.forget).not.toHaveBeenCalled();
    expect(events[1]).toEqual({ type: 'released', attempt: 1, error: outOfStock, ...NAMED });
  });

  it('is released when it throws', async () => {
    const { run } = leaseEngine();
    expect(await run(() => Promise.reject(outOfStock))).toEqual({ kind: 'released', error: outOfStock });
  });

  it('is forgotten when it never began, in its first attempt', async () => {
    const { run, store, events } = leaseEngine();
    expect(await run(() => Promise.resolve(released))).toEqual({ kind: 'released', error: outOfStock });
    expect(store.forget).toHaveBeenCalledExactlyOnceWith(expect.anything(), FENCE);
    expect(store.release).not.toHaveBeenCalled();
    expect(events[1]).toMatchObject({ type: 'released' });

    const second = leaseEngine({ claim: () => Promise.resolve(claimed({}, 2)) });
    await second.run(() => Promise.resolve(released));
    expect(second.store.forget).not.toHaveBeenCalled();
    expect(second.store.release).toHaveBeenCalledTimes(1);
  });

  it.each<[string, RunHandler, object, object]>([
    ['it has done a step', charging, {}, {}],
    ['an attempt before it was abandoned', handlerOf(released), {}, { resumed: true }],
    [
      'such an attempt was, and it has not begun itself',
      () => Promise.resolve(released),
      {},
      { resumed: true },
    ],
    ['its route is not run twice by itself', handlerOf(released), { onAbandoned: 'fail' }, {}],
  ])('leaves its record as it stands when %s', async (_why, handler, policy, claim) => {
    const { run, store, events } = leaseEngine({ claim: () => Promise.resolve(claimed(claim)) });
    expect(await run(handler, policy)).toEqual({ kind: 'released', error: outOfStock });
    expect(store.abandon).toHaveBeenCalledExactlyOnceWith(expect.anything(), FENCE, outOfStock);
    expect(store.release).not.toHaveBeenCalled();
    expect(store.forget).not.toHaveBeenCalled();
    expect(events.at(-1)).toEqual({ type: 'abandoned', attempt: 1, error: outOfStock, ...NAMED });
  });

  it('is forgotten on such a route too when it never began', async () => {
    const { run, store } = leaseEngine();
    await run(() => Promise.resolve(released), { onAbandoned: 'fail' });
    expect(store.forget).toHaveBeenCalledTimes(1);
  });

  it('says that it lost against another transaction', async () => {
    const { run } = leaseEngine();
    expect(await run(handlerOf({ kind: 'release', error: conflict }))).toEqual({
      kind: 'failed',
      reason: 'transaction-conflict',
      cause: conflict,
    });
  });

  it.each([completed, refused])('is not recorded when its work is half done: %o', async (outcome) => {
    const undone = new Error('1 step(s) or phase(s)');
    const { run, store } = leaseEngine();
    const answer = await run((attempt) => {
      leaveUndone(attempt, undone);
      return handlerOf(outcome)(attempt);
    });
    expect(answer).toEqual({ kind: 'released', error: undone });
    expect(store.complete).not.toHaveBeenCalled();
  });

  it('is given back when what it left running is over', async () => {
    const { run, store } = leaseEngine();
    let done!: (value: string) => void;
    const answer = run((attempt) => {
      void attempt.step('charge', () => new Promise<string>((resolve) => (done = resolve)));
      return handlerOf(released)(attempt);
    });
    await vi.advanceTimersByTimeAsync(10);
    expect(store.abandon).not.toHaveBeenCalled();
    done('ch_1');
    await answer;
    expect(store.abandon).toHaveBeenCalledTimes(1);
  });
});
