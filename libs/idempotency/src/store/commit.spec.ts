import { describe, expect, it, vi } from 'vitest';
import { scriptedSession } from '../../../../test/support/scripted-client.js';
import type { BatchAnswer } from './batch.js';
import { commit, committed, flush } from './commit.js';
import type { Session } from './session.js';
import { CommitRefusedError } from './sql-state.js';
import { withSession } from './with-session.js';

const failed = new Error('failed');
const answer = (command: string): BatchAnswer => ({ command, rowCount: 0, rows: [] });

/** A session whose batches come to that. */
function batching(outcome: readonly BatchAnswer[] | Error) {
  const { session } = scriptedSession();
  const batch = vi.fn((..._args: unknown[]) =>
    outcome instanceof Error ? Promise.reject(outcome) : Promise.resolve(outcome),
  );
  return { session: Object.assign(session, { batch }) as Session, batch };
}

describe('statements with their COMMIT', () => {
  it('are sent together, and committed when COMMIT says so', async () => {
    const answers = [answer('UPDATE'), answer('COMMIT')];
    const { session, batch } = batching(answers);
    const onSent = vi.fn();
    const result = await commit(session, [{ text: 'UPDATE' }], 'COMMIT AND CHAIN', { onSent });
    expect(result).toEqual({ kind: 'committed', answers });
    expect(batch).toHaveBeenCalledExactlyOnceWith([{ text: 'UPDATE' }, { text: 'COMMIT AND CHAIN' }], onSent);
  });

  it.each([
    ['ROLLBACK', [answer('UPDATE'), answer('ROLLBACK')]],
    ['', []],
  ])('are refused when the answer to COMMIT is %j', async (command, answers) => {
    const result = await commit(batching(answers).session, [], 'COMMIT');
    expect(result).toEqual({ kind: 'refused', cause: new CommitRefusedError(command) });
    const message = `PostgreSQL answered COMMIT with ${command}: an earlier statement of the transaction had failed`;
    expect(result).toMatchObject({ cause: { name: 'CommitRefusedError', message } });
  });

  it('are refused when PostgreSQL refuses one of them', async () => {
    const cause = Object.assign(new Error('violates'), { code: '23503', severity: 'ERROR' });
    expect(await commit(batching(cause).session, [], 'COMMIT')).toEqual({ kind: 'refused', cause });
  });

  it('are unknown when nothing is answered, unless the connection was gone before', async () => {
    expect(await commit(batching(failed).session, [], 'COMMIT')).toEqual({ kind: 'unknown', cause: failed });
    const { session } = batching(failed);
    session.destroy(new Error('gone'));
    expect(await commit(session, [], 'COMMIT')).toEqual({ kind: 'refused', cause: failed });
  });
});

describe('statements without', () => {
  const statements = [{ text: 'one' }, { text: 'two' }, { text: 'three' }];
  const failingTwo = (pipeline: boolean) =>
    scriptedSession((text) => (text === 'two' ? Promise.reject(failed) : {}), pipeline);

  it('go out together where the connection pipelines', async () => {
    const { session, client } = failingTwo(true);
    const results = await flush(session, statements);
    expect(client.sent).toEqual(['one', 'two', 'three']);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  });

  it('go out one after another where it does not, until one fails', async () => {
    const { session, client } = failingTwo(false);
    const results = await flush(session, statements);
    expect(client.sent).toEqual(['one', 'two']);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
  });

  it('have succeeded when each of them has, and the last was a COMMIT', async () => {
    const of = async (text: string, command: string) =>
      committed(await flush(scriptedSession(() => ({ command })).session, [{ text }]));
    expect(await of('COMMIT', 'COMMIT')).toMatchObject([{ command: 'COMMIT' }]);
    await expect(of('COMMIT', 'ROLLBACK')).rejects.toThrow(CommitRefusedError);
    expect(() => committed([])).toThrow(CommitRefusedError);
    expect(() => committed([{ status: 'rejected', reason: failed }])).toThrow(failed);
  });
});

describe('work on a connection of its own', () => {
  const storeOf = (session: Session) => ({ open: vi.fn((_timeoutMs: number) => Promise.resolve(session)) });

  it('gives it back healthy', async () => {
    const { session, giveBack, client } = scriptedSession();
    const store = storeOf(session);
    expect(await withSession(store, 100, (given) => Promise.resolve(given === session))).toBe(true);
    expect(store.open).toHaveBeenCalledExactlyOnceWith(100);
    expect(giveBack).toHaveBeenCalledExactlyOnceWith(undefined);
    expect(client.sent).toEqual([]);
  });

  it('gives it back when what is open on it is rolled back, after an error', async () => {
    const { session, giveBack, client } = scriptedSession();
    await expect(withSession(storeOf(session), 100, () => Promise.reject(failed))).rejects.toBe(failed);
    await vi.waitFor(() => expect(giveBack).toHaveBeenCalledExactlyOnceWith(undefined));
    expect(client.sent).toEqual(['ROLLBACK']);
  });

  it('gives up what takes too long', async () => {
    const { session } = scriptedSession();
    const silent = (): Promise<never> => new Promise(() => undefined);
    await expect(withSession(storeOf(session), 10, silent)).rejects.toThrow(
      'PostgreSQL did not answer within 10 ms',
    );
    expect(session.isLost).toBe(true);
  });
});
