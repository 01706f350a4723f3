import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { scriptedSession } from '../../../../test/support/scripted-client.js';
import { LIFE } from '../../../../test/support/transaction-engine.js';
import type { IdempotencyStore } from '../store/idempotency.store.js';
import { resolveOutcome } from './unknown-outcome.js';

type Settled = Awaited<ReturnType<IdempotencyStore['settled']>>;
const silent = <T>(): Promise<T> => new Promise(() => undefined);

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }));
afterEach(() => void vi.useRealTimers());

/** A store that answers from a script, the last answer for ever. */
function scripted(...answers: (Settled | Error)[]) {
  const opened: ReturnType<typeof scriptedSession>[] = [];
  let round = 0;
  const settled = vi.fn((..._args: unknown[]): Promise<Settled> => {
    const answer = answers[Math.min(round++, answers.length - 1)] as Settled | Error;
    return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
  });
  const open = vi.fn((_timeoutMs: number) => {
    const made = scriptedSession();
    opened.push(made);
    return Promise.resolve(made.session);
  });
  return { store: { open, settled } as unknown as IdempotencyStore, open, settled, opened };
}

describe('an outcome that nobody has heard', () => {
  it.each(['committed', 'rolled-back'] as const)('is what the record says: %s', async (answer) => {
    const { store, settled, opened } = scripted(answer);
    await expect(resolveOutcome(store, LIFE)).resolves.toBe(answer);
    expect(settled).toHaveBeenCalledExactlyOnceWith(opened[0]?.session, LIFE, 5_000);
    expect(opened[0]?.client.sent).toEqual(['ROLLBACK']);
    expect(opened[0]?.giveBack).toHaveBeenCalledExactlyOnceWith(undefined);
  });

  it('stays unknown, without another question, when the record is gone', async () => {
    const { store, settled } = scripted('gone');
    await expect(resolveOutcome(store, LIFE)).resolves.toBe('unresolved');
    expect(settled).toHaveBeenCalledTimes(1);
  });

  it('is asked after again while the database is away', async () => {
    const { store, open } = scripted('committed');
    open.mockRejectedValueOnce(new Error('ECONNREFUSED')).mockRejectedValueOnce(new Error('starting up'));
    await expect(resolveOutcome(store, LIFE)).resolves.toBe('committed');
    expect(open).toHaveBeenCalledTimes(3);
  });

  it('stays unknown after five seconds, each question waiting for what is left of them', async () => {
    const { store, open } = scripted('committed');
    open.mockImplementation(async () => {
      await vi.advanceTimersByTimeAsync(2_000.5);
      throw new Error('ECONNREFUSED');
    });
    await expect(resolveOutcome(store, LIFE)).resolves.toBe('unresolved');
    expect(open.mock.calls.map(([ms]) => ms)).toEqual([5_000, 3_000, 999]);
  });

  it('waits a second longer for the answer than the server does for the row', async () => {
    const { store, settled, opened } = scripted('committed');
    settled.mockImplementation(silent);
    const answer = resolveOutcome(store, LIFE);
    await vi.advanceTimersByTimeAsync(5_999);
    expect(opened[0]?.session.isLost).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    expect(opened[0]?.session.isLost).toBe(true);
    await expect(answer).resolves.toBe('unresolved');
  });
});
