import { describe, expect, it, vi } from 'vitest';
import { scriptedSession } from '../../../../test/support/scripted-client.js';
import type { CommitResult } from './commit.js';
import { awaitStandby, NotReplicatedError, replicated, unlessUnreplicated } from './replication.js';
import type { Session, Statement } from './session.js';

/** What PostgreSQL says, in whatever language, when it has stopped to wait for its standbys. */
const WARNING = { routine: 'SyncRepWaitForLSN', message: 'attente annulée' };

function standby({
  answers = [{ command: 'COMMIT' }],
  warns = false,
}: { answers?: object[]; warns?: boolean } = {}) {
  const { session, client } = scriptedSession();
  const batch = vi.fn((_statements: readonly Statement[]) => {
    client.emit('notice', { routine: 'another', message: 'of no interest' });
    if (warns) client.emit('notice', WARNING);
    return Promise.resolve(answers);
  });
  return { session: Object.assign(session, { batch }) as unknown as Session, batch, client };
}

describe('the wait for the standbys', () => {
  it('is a commit with a mark in the log, two seconds at most', async () => {
    const { session, batch } = standby();
    await awaitStandby(session);
    const [statements = []] = batch.mock.calls[0] ?? [];
    expect(statements.map(({ text }) => text.trim().split(/[\s(]/, 1)[0])).toEqual([
      'BEGIN',
      'SELECT',
      'COMMIT',
    ]);
    expect(statements[0]?.text).toBe('BEGIN ISOLATION LEVEL READ COMMITTED');
    expect(statements[1]?.text).toContain('pg_logical_emit_message(true');
    expect(statements[1]?.values).toEqual([2_000]);
    expect(statements[2]?.text).toBe('COMMIT');
  });

  it('leaves a transaction open where one was open', async () => {
    const { session, batch } = standby();
    await awaitStandby(session, { inTransaction: true });
    const [statements = []] = batch.mock.calls[0] ?? [];
    expect(statements).toHaveLength(2);
    expect(statements[1]?.text).toBe('COMMIT AND CHAIN');
  });

  it.each([
    [0, 1],
    [0.2, 1],
    [12.5, 13],
  ])('lasts whole milliseconds, and one at least: of %d', async (waitMs, sent) => {
    const { session, batch } = standby();
    await awaitStandby(session, { waitMs });
    expect(batch.mock.calls[0]?.[0][1]?.values).toEqual([sent]);
  });

  it('fails when PostgreSQL has stopped to wait', async () => {
    await expect(awaitStandby(standby({ warns: true }).session)).rejects.toThrow(NotReplicatedError);
    await expect(awaitStandby(standby({ warns: true }).session)).rejects.toMatchObject({
      name: 'NotReplicatedError',
      message:
        'PostgreSQL has committed, but has not waited for its synchronous standby: a failover may take it back',
    });
  });

  it('fails when the commit does', async () => {
    const { session } = standby({ answers: [{ command: 'ROLLBACK' }] });
    await expect(awaitStandby(session)).rejects.toThrow('PostgreSQL answered COMMIT with ROLLBACK');
  });
});

describe('a commit that a failover may take back', () => {
  const COMMITTED: CommitResult = { kind: 'committed', answers: [] };
  const REFUSED: CommitResult = { kind: 'refused', cause: 'no' };
  const commitOn =
    ({ client }: ReturnType<typeof standby>, result: CommitResult, warns: boolean) =>
    () => {
      if (warns) client.emit('notice', WARNING);
      return Promise.resolve(result);
    };

  it('is unknown', async () => {
    const on = standby();
    expect(await unlessUnreplicated(on.session, commitOn(on, COMMITTED, true))).toEqual({
      kind: 'unknown',
      cause: new NotReplicatedError(),
    });
  });

  it('is none when nothing was said, or something about an earlier one', async () => {
    const on = standby();
    on.client.emit('notice', WARNING);
    expect(await unlessUnreplicated(on.session, commitOn(on, COMMITTED, false))).toBe(COMMITTED);
  });

  it('is none when it was refused anyway', async () => {
    const on = standby();
    expect(await unlessUnreplicated(on.session, commitOn(on, REFUSED, true))).toBe(REFUSED);
  });

  it('fails a statement that is its own transaction', async () => {
    const on = standby();
    const statement = (warns: boolean) => () => {
      if (warns) on.client.emit('notice', WARNING);
      return Promise.resolve('written');
    };
    expect(await replicated(on.session, statement(false))).toBe('written');
    await expect(replicated(on.session, statement(true))).rejects.toThrow(NotReplicatedError);
    expect(await replicated(on.session, statement(false))).toBe('written');
  });
});
