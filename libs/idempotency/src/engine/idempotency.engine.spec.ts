import { describe, expect, it, vi } from 'vitest';
import {
  completed,
  EXPIRES_AT_MS,
  handlerOf,
  IDENTITY,
  NAMED,
  PAID,
  POLICY,
} from '../../../../test/support/engine-script.js';
import { leaveUndone, LIFE, locked, transactionEngine } from '../../../../test/support/transaction-engine.js';
import { armFailpoints } from '../failpoint.js';
import type { ReplayCache } from '../cache/replay-cache.js';
import type { CompletedAttempt } from '../store/idempotency.store.js';
import type { HandlerOutcome, RunHandler } from './outcomes.js';

const conflict = Object.assign(new Error('deadlock detected'), { code: '40P01', severity: 'ERROR' });
const outOfStock = new Error('out of stock');
const refused: HandlerOutcome = { kind: 'final', status: 'error', response: PAID, error: outOfStock };
const released: HandlerOutcome = { kind: 'release', error: outOfStock };
const never: RunHandler = () => Promise.reject(new Error('the handler must not run'));

describe('the engine of transaction mode', () => {
  it('commits what its handler came to, and says so', async () => {
    const { run, store, events, opened, parts, inFlight } = transactionEngine();
    let afterCommits: unknown;
    const answer = await run((attempt) => {
      afterCommits = (attempt as unknown as { afterCommits: unknown }).afterCommits;
      return handlerOf(completed)(attempt);
    });
    expect(answer).toEqual({ kind: 'executed', attempt: 1, expiresAtMs: EXPIRES_AT_MS });
    expect(store.complete).toHaveBeenCalledExactlyOnceWith(opened[0]?.session, {
      keyHash: IDENTITY.keyHash,
      attempt: 1,
      status: 'completed',
      response: PAID,
    });
    expect(vi.mocked(store.complete).mock.calls[0]?.[1]).not.toHaveProperty('error');
    expect(events).toEqual([
      { type: 'claimed', attempt: 1, ...NAMED },
      {
        type: 'completed',
        attempt: 1,
        status: 201,
        tombstone: false,
        durationMs: expect.any(Number),
        ...NAMED,
      },
    ]);
    const [, { durationMs }] = events as unknown as [unknown, { durationMs: number }];
    expect(durationMs).toBeGreaterThanOrEqual(0);
    expect(durationMs).toBeLessThan(performance.now() / 2);
    expect(parts.afterCommit).toHaveBeenCalledExactlyOnceWith(afterCommits);
    expect(opened[0]?.giveBack).toHaveBeenCalledExactlyOnceWith(undefined);
    expect(inFlight.size).toBe(0);
  });

  it('commits an error that its handler decided on, with nothing that was to run after a commit', async () => {
    const { run, store, events, parts } = transactionEngine();
    expect(await run(handlerOf(refused))).toMatchObject({ kind: 'executed' });
    expect(store.complete).toHaveBeenCalledExactlyOnceWith(
      expect.anything(),
      expect.objectContaining({ status: 'error', error: outOfStock }),
    );
    expect(events.map(({ type }) => type)).toEqual(['claimed', 'completed']);
    expect(parts.afterCommit).not.toHaveBeenCalled();
  });

  it('says of an answer whose body cannot be stored that it is a tombstone', async () => {
    const { run, events } = transactionEngine();
    await run(handlerOf({ ...completed, response: { ...PAID, body: null } } as HandlerOutcome));
    expect(events).toContainEqual(expect.objectContaining({ type: 'completed', tombstone: true }));
  });

  it('says that it takes an abandoned record over, before it begins', async () => {
    const answers = [locked({ begun: true }), locked({ attempt: 2, abandoned: 1 })];
    const claim = (): Promise<unknown> => Promise.resolve(answers.shift());
    const { run, events } = transactionEngine({ claim, reclaim: () => Promise.resolve() } as object);
    expect(await run(handlerOf(completed))).toMatchObject({ kind: 'executed', attempt: 2 });
    expect(events.map(({ type }) => type)).toEqual(['taken-over', 'claimed', 'completed']);
    expect(events[0]).toEqual({ type: 'taken-over', attempt: 2, ...NAMED });
  });

  it('runs nothing without the store, and says why', async () => {
    const cause = new Error('ECONNREFUSED');
    const { run, events } = transactionEngine({ open: () => Promise.reject(cause) });
    expect(await run(never)).toEqual({ kind: 'rejected', reason: 'store-unavailable', cause });
    expect(events).toEqual([]);
  });

  it('answers from the record of another attempt, and says where that was found', async () => {
    const record = { state: 'final', raised: true, response: PAID, expiresAtMs: 5 } as const;
    const claim = () => Promise.resolve({ kind: 'not-locked', record } as const);
    const { run, events } = transactionEngine({ claim });
    expect(await run(never)).toEqual({ kind: 'replay', raised: true, response: PAID });
    expect(events).toEqual([{ type: 'replayed', status: 201, source: 'record', ...NAMED }]);
  });

  it('only looks for a duplicate of what it has executed', async () => {
    const look = vi.fn(() =>
      Promise.resolve({ state: 'final', raised: false, response: PAID, expiresAtMs: 5 } as const),
    );
    const { run, store } = transactionEngine({ look });
    await run(handlerOf(completed));
    expect(await run(never)).toMatchObject({ kind: 'replay' });
    expect(look).toHaveBeenCalledTimes(1);
    expect(store.claim).toHaveBeenCalledTimes(1);
  });

  it.each([
    ['a success', completed, false],
    ['an error', refused, true],
  ])('shares %s with the duplicates that wait for it in this process', async (_what, outcome, raised) => {
    const { run, store, events } = transactionEngine();
    let duplicate: Promise<unknown> | undefined;
    await run((attempt) => {
      duplicate = run(never, { onInFlight: 'wait' });
      return handlerOf(outcome)(attempt);
    });
    expect(await duplicate).toEqual({ kind: 'replay', raised, response: PAID });
    expect(store.claim).toHaveBeenCalledTimes(1);
    expect(events).toContainEqual(expect.objectContaining({ type: 'replayed', source: 'process' }));
  });

  it('has the outcome kept until its record expires, and held by nobody whose connection is gone', async () => {
    let isHeld: (() => boolean) | undefined;
    const told: unknown[] = [];
    const cache: Partial<ReplayCache> = {
      find: () => Promise.resolve(undefined),
      beginLook: () => () => undefined,
      begin: (_identity, held) => {
        isHeld = held;
        return (outcome) => void told.push(outcome);
      },
    };
    const { run, opened } = transactionEngine({}, cache);
    const seen: (boolean | undefined)[] = [];
    await run((attempt) => {
      seen.push(isHeld?.());
      return handlerOf(completed)(attempt);
    });
    opened[0]?.session.destroy(new Error('gone'));
    expect(seen).toEqual([true]);
    expect(told).toEqual([{ expiresAtMs: EXPIRES_AT_MS, raised: false, response: PAID }]);

    const lost = transactionEngine({}, cache);
    await lost.run(() => {
      lost.opened[0]?.client.emit('error', new Error('terminated'));
      seen.push(isHeld?.());
      return new Promise(() => undefined);
    });
    expect(seen).toEqual([true, false]);
    expect(told).toHaveLength(2);
    expect(told[1]).toBeUndefined();
  });

  it('gives the key back when the handler fails, and the handler has its own error', async () => {
    const { run, store, events, opened, parts, inFlight } = transactionEngine();
    let shared: unknown;
    const answer = await run((attempt) => {
      shared = inFlight.find(IDENTITY.keyHash)?.outcome;
      return handlerOf(released)(attempt);
    });
    expect(answer).toEqual({ kind: 'released', error: outOfStock });
    expect(await shared).toEqual({ kind: 'none' });
    expect(store.release).toHaveBeenCalledExactlyOnceWith(opened[0]?.session, {
      ...LIFE,
      error: outOfStock,
      began: true,
    });
    expect(events).toEqual([
      { type: 'claimed', attempt: 1, ...NAMED },
      { type: 'released', attempt: 1, error: outOfStock, ...NAMED },
    ]);
    expect(opened[0]?.giveBack).toHaveBeenCalledExactlyOnceWith(undefined);
    expect(parts.afterCommit).not.toHaveBeenCalled();
    expect(store.complete).not.toHaveBeenCalled();
  });

  it('tells the store when the handler never began', async () => {
    const { run, store } = transactionEngine();
    await run(() => Promise.resolve(released));
    expect(store.release).toHaveBeenCalledWith(expect.anything(), expect.objectContaining({ began: false }));
  });

  it('takes a handler that throws for one that cannot be judged: it is released', async () => {
    const { run, store } = transactionEngine();
    expect(await run(() => Promise.reject(outOfStock))).toEqual({ kind: 'released', error: outOfStock });
    expect(store.release).toHaveBeenCalledTimes(1);
  });

  it('says that the handler lost against another transaction', async () => {
    const { run, events } = transactionEngine();
    expect(await run(handlerOf({ kind: 'release', error: conflict }))).toEqual({
      kind: 'failed',
      reason: 'transaction-conflict',
      cause: conflict,
    });
    expect(events.map(({ type }) => type)).toEqual(['claimed']);
  });

  it('stores no success for work that is half done, but an error for it', async () => {
    const undone = new Error('a statement is not answered');
    const leaving =
      (outcome: HandlerOutcome): RunHandler =>
      (attempt) => {
        leaveUndone(attempt, undone);
        return handlerOf(outcome)(attempt);
      };
    const succeeding = transactionEngine();
    expect(await succeeding.run(leaving(completed))).toEqual({ kind: 'released', error: undone });
    expect(succeeding.store.complete).not.toHaveBeenCalled();
    const failing = transactionEngine();
    expect(await failing.run(leaving(refused))).toMatchObject({ kind: 'executed' });
  });

  it('lets a second run of the handler undo what the first one wrote', async () => {
    const { run, store, opened } = transactionEngine();
    await run(async (attempt) => {
      await handlerOf(completed)(attempt);
      return handlerOf(completed)(attempt);
    });
    expect(store.undoHandler).toHaveBeenCalledExactlyOnceWith(opened[0]?.session);
  });

  it('asks nothing of an engine that has ended: no timer is left of maxRuntime', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const { run } = transactionEngine();
      await run(handlerOf(completed));
      expect(vi.getTimerCount()).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe('the failpoints of transaction mode', () => {
  it('are passed in their order', async () => {
    const passed: string[] = [];
    const disarm = armFailpoints((point) => passed.push(point));
    try {
      const complete = (_session: unknown, { onSent }: CompletedAttempt) => {
        onSent?.('record');
        onSent?.('commit');
        return Promise.resolve({ kind: 'committed', answers: [] } as const);
      };
      await transactionEngine({ complete }).run(handlerOf(completed));
    } finally {
      disarm();
    }
    expect(passed).toEqual([
      'before-claim',
      'after-claim',
      'handler-returned',
      'record-written',
      'commit-sent',
      'committed',
    ]);
  });
});

it('asks for a connection for as long as acquireTimeout says', async () => {
  const { run, store } = transactionEngine();
  await run(handlerOf(completed), POLICY);
  expect(store.open).toHaveBeenCalledExactlyOnceWith(100);
});
