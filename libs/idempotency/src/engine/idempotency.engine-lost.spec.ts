import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { completed, EXPIRES_AT_MS, handlerOf, NAMED, PAID } from '../../../../test/support/engine-script.js';
import { LIFE, transactionEngine } from '../../../../test/support/transaction-engine.js';
import { ScriptedClient, scriptedSession } from '../../../../test/support/scripted-client.js';
import { ConnectionLostError } from '../store/connection-lost.error.js';
import type { Session } from '../store/session.js';
import type { RunHandler } from './outcomes.js';

const failed = new Error('the handler failed');
const terminated = new Error('terminating connection');
const silent = <T>(): Promise<T> => new Promise(() => undefined);

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }));
afterEach(() => void vi.useRealTimers());

/** An engine whose attempt loses its connection while the handler runs, and then asks for others with `open`. */
function losing(script: Parameters<typeof transactionEngine>[0] = {}, open?: () => Promise<Session>) {
  const engine = transactionEngine(script);
  const opening = vi.mocked(engine.store.open);
  const lose: RunHandler = () => {
    if (open) opening.mockImplementation(open);
    engine.opened[0]?.client.emit('error', terminated);
    return silent();
  };
  return { ...engine, opening, answer: () => engine.run(lose) };
}

describe('an attempt that has lost its connection', () => {
  it('waits for its handler no more, and is given back on another connection', async () => {
    const { answer, store, opened, opening, events } = losing();
    expect(await answer()).toEqual({ kind: 'failed', reason: 'attempt-lost', cause: terminated });
    expect(store.giveBack).toHaveBeenCalledExactlyOnceWith(opened[1]?.session, {
      ...LIFE,
      error: terminated,
      waitMs: 1_000,
    });
    expect(opening).toHaveBeenLastCalledWith(1_000);
    expect(opened[0]?.giveBack).toHaveBeenCalledExactlyOnceWith(terminated);
    expect(opened[1]?.client.sent).toEqual(['ROLLBACK']);
    expect(opened[1]?.giveBack).toHaveBeenCalledExactlyOnceWith(undefined);
    expect(events.map(({ type }) => type)).toEqual(['claimed']);
  });

  it('is given back once, although the connection healthily says no', async () => {
    const { answer, opening } = losing({ giveBack: () => Promise.reject(new Error('deadlock')) });
    expect(await answer()).toMatchObject({ kind: 'failed', reason: 'attempt-lost' });
    expect(opening).toHaveBeenCalledTimes(2);
  });

  it('tries five connections that are dead as well, and no more', async () => {
    const { answer, opening } = losing({
      giveBack: (session: Session) => {
        session.destroy(terminated);
        return Promise.reject(terminated);
      },
    });
    expect(await answer()).toMatchObject({ kind: 'failed', reason: 'attempt-lost' });
    expect(opening).toHaveBeenCalledTimes(1 + 5);
  });

  it('tries again when no connection could be had', async () => {
    const { answer, opening } = losing({}, () => Promise.reject(new Error('ECONNREFUSED')));
    expect(await answer()).toMatchObject({ kind: 'failed', reason: 'attempt-lost' });
    expect(opening).toHaveBeenCalledTimes(1 + 5);
  });

  it('holds its answer up for a second at most', async () => {
    const { answer, opening } = losing({}, async () => {
      await vi.advanceTimersByTimeAsync(600);
      throw new Error('ECONNREFUSED');
    });
    expect(await answer()).toMatchObject({ kind: 'failed', reason: 'attempt-lost' });
    expect(opening.mock.calls.map(([ms]) => ms)).toEqual([100, 1_000, 400]);
  });

  it('gives up a connection on which it cannot be given back in two seconds', async () => {
    const { answer, opened } = losing({ giveBack: silent });
    const answered = answer();
    await vi.advanceTimersByTimeAsync(1_999);
    expect(opened[1]?.session.isLost).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    expect(opened[1]?.session.isLost).toBe(true);
    await answered;
  });
});

describe('an attempt that runs for longer than maxRuntime', () => {
  it('loses its connection, and says so', async () => {
    const { run, store } = transactionEngine();
    const answer = run(silent, { maxRuntimeMs: 5_000 });
    await vi.advanceTimersByTimeAsync(4_999);
    expect(store.giveBack).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(1);
    expect(await answer).toEqual({
      kind: 'failed',
      reason: 'attempt-lost',
      cause: new ConnectionLostError('the attempt ran for longer than maxRuntime (5000 ms)'),
    });
    expect(store.giveBack).toHaveBeenCalledTimes(1);
  });
});

describe('a commit that PostgreSQL refuses', () => {
  const cause = Object.assign(new Error('violates foreign key constraint'), { code: '23503' });
  const complete = () => Promise.resolve({ kind: 'refused', cause } as const);

  it('gives the key back in a transaction of its own, as one whose handler began', async () => {
    const { run, store, opened } = transactionEngine({ complete });
    expect(await run(() => Promise.resolve(completed))).toEqual({ kind: 'released', error: cause });
    expect(opened[0]?.client.sent).toEqual(['ROLLBACK', 'BEGIN', 'SAVEPOINT']);
    expect(store.release).toHaveBeenCalledExactlyOnceWith(opened[0]?.session, {
      ...LIFE,
      error: cause,
      began: true,
    });
  });

  it('says what the author of the handler can do about an aborted transaction', async () => {
    const aborted = Object.assign(new Error('current transaction is aborted'), { code: '25P02' });
    const { run } = transactionEngine({
      complete: () => Promise.resolve({ kind: 'refused', cause: aborted } as const),
    });
    expect(await run(handlerOf(completed))).toMatchObject({
      kind: 'released',
      error: {
        message: expect.stringContaining('Put a statement that may fail into a nested'),
        cause: aborted,
      },
    });
  });

  it('is a lost attempt when the connection went with it', async () => {
    const { run, store, opened } = transactionEngine({
      complete: (session: Session) => {
        session.destroy(terminated);
        return complete();
      },
    });
    expect(await run(handlerOf(completed))).toEqual({ kind: 'failed', reason: 'attempt-lost', cause });
    expect(opened[0]?.client.sent).toEqual([]);
    expect(store.release).not.toHaveBeenCalled();
    expect(store.giveBack).toHaveBeenCalledTimes(1);
  });

  it.each(['ROLLBACK', 'BEGIN', 'SAVEPOINT'])(
    'is a lost attempt when %s fails after it',
    async (statement) => {
      const { run, store } = transactionEngine({ complete });
      const { session } = scriptedSession((text) => (text === statement ? Promise.reject(terminated) : {}));
      vi.mocked(store.open).mockResolvedValueOnce(session);
      expect(await run(handlerOf(completed))).toEqual({
        kind: 'failed',
        reason: 'attempt-lost',
        cause: terminated,
      });
      expect(store.release).not.toHaveBeenCalled();
    },
  );

  it('is a lost attempt when the release is not committed either', async () => {
    const { run, store } = transactionEngine({
      complete,
      release: () => Promise.resolve({ kind: 'unknown', cause: terminated } as const),
    });
    expect(await run(handlerOf(completed))).toEqual({
      kind: 'failed',
      reason: 'attempt-lost',
      cause: terminated,
    });
    expect(store.giveBack).toHaveBeenCalledTimes(1);
  });
});

describe('a release that is not answered', () => {
  it('is a lost attempt, after half a minute', async () => {
    const { run, opened } = transactionEngine({ release: silent });
    const answer = run(handlerOf({ kind: 'release', error: failed }));
    await vi.advanceTimersByTimeAsync(29_999);
    expect(opened[0]?.session.isLost).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    expect(await answer).toMatchObject({ kind: 'failed', reason: 'attempt-lost' });
  });
});

describe('a COMMIT that is not answered', () => {
  const cause = new Error('Connection terminated');
  const complete = () => Promise.resolve({ kind: 'unknown', cause } as const);

  it('is asked after on another connection, and adopted when it had been committed', async () => {
    const settled = vi.fn(() => Promise.resolve('committed' as const));
    const { run, opened, events, parts } = transactionEngine({ complete, settled });
    // Without the time at which it expires, which only the lost answer would have been sure of.
    expect(await run(handlerOf(completed))).toEqual({ kind: 'executed', attempt: 1 });
    expect(opened[0]?.giveBack).toHaveBeenCalledExactlyOnceWith(cause);
    expect(settled).toHaveBeenCalledExactlyOnceWith(opened[1]?.session, LIFE, 5_000);
    expect(events.map(({ type }) => type)).toEqual(['claimed', 'unknown', 'completed']);
    expect(events[1]).toEqual({ type: 'unknown', attempt: 1, resolution: 'committed', ...NAMED });
    expect(parts.afterCommit).toHaveBeenCalledTimes(1);
  });

  it.each([
    ['rolled-back', 'rolled-back', 'attempt-lost'],
    ['gone', 'unresolved', 'outcome-unknown'],
  ] as const)('is no success when the record says %s', async (found, resolution, reason) => {
    const settled = () => Promise.resolve(found);
    const { run, events, parts } = transactionEngine({ complete, settled });
    expect(await run(handlerOf(completed))).toEqual({ kind: 'failed', reason, cause });
    expect(events[1]).toEqual({ type: 'unknown', attempt: 1, resolution, ...NAMED });
    expect(events).toHaveLength(2);
    expect(parts.afterCommit).not.toHaveBeenCalled();
  });

  it('keeps no copy of what it adopts, and has left the duplicates in this process to the record', async () => {
    const told: unknown[] = [];
    const cache = {
      find: () => Promise.resolve(undefined),
      beginLook: () => () => undefined,
      begin: () => (outcome: unknown) => void told.push(outcome),
    };
    const settled = () => Promise.resolve('committed' as const);
    const { run, inFlight } = transactionEngine({ complete, settled }, cache);
    let shared: unknown;
    await run((attempt) => {
      shared = inFlight.find(Buffer.alloc(32, 1))?.outcome;
      return handlerOf(completed)(attempt);
    });
    expect(told).toEqual([undefined]);
    expect(await shared).toStrictEqual({ kind: 'none' });
  });

  it('is one after half a minute', async () => {
    const settled = () => Promise.resolve('committed' as const);
    const { run, opened } = transactionEngine({ complete: silent, settled });
    const answer = run(handlerOf(completed));
    await vi.advanceTimersByTimeAsync(30_000);
    expect(await answer).toEqual({ kind: 'executed', attempt: 1 });
    expect(opened[0]?.session.isLost).toBe(true);
  });

  it('tells an answer that came in time by when the record expires', async () => {
    const { run, inFlight } = transactionEngine();
    let shared: unknown;
    await run((attempt) => {
      shared = inFlight.find(Buffer.alloc(32, 1))?.outcome;
      return handlerOf(completed)(attempt);
    });
    expect(await shared).toEqual({
      kind: 'final',
      raised: false,
      response: PAID,
      expiresAtMs: EXPIRES_AT_MS,
    });
  });

  it.each([
    ['attempt-lost', { complete: () => Promise.resolve({ kind: 'refused', cause: 'no error' } as const) }],
    [
      'outcome-unknown',
      {
        complete: () => Promise.resolve({ kind: 'unknown', cause: 'no error' } as const),
        settled: () => Promise.resolve('gone' as const),
      },
    ],
  ])('gives the pool an error, whatever the cause is (%s)', async (reason, script) => {
    const { run, store } = transactionEngine(script);
    const client = new ScriptedClient((text) => (text === 'ROLLBACK' ? Promise.reject('no error') : {}));
    const made = scriptedSession();
    vi.mocked(store.open).mockResolvedValueOnce(made.session);
    made.client.query = client.query.bind(client);
    expect(await run(handlerOf(completed))).toMatchObject({ kind: 'failed', reason, cause: 'no error' });
    expect(made.giveBack).toHaveBeenCalledExactlyOnceWith(new ConnectionLostError('no error'));
  });
});
