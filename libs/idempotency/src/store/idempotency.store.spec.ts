import { describe, expect, it, vi } from 'vitest';
import { NOW, READ_ROW } from '../../../../test/support/read-row.js';
import { scriptedSession } from '../../../../test/support/scripted-client.js';
import { IDENTITY, PAID } from '../../../../test/support/engine-script.js';
import { LIFE } from '../../../../test/support/transaction-engine.js';
import { Sealer } from '../sealing/sealer.js';
import type { BatchAnswer } from './batch.js';
import { describeError, IdempotencyStore, StaleAttemptError } from './idempotency.store.js';
import { NotReplicatedError } from './replication.js';
import type { Session, Statement } from './session.js';

/** A row of READ: a success that is replayed. */
const READ = {
  ...READ_ROW,
  status: 'completed',
  response_status: 201,
  response_headers: { 'content-type': 'text/plain' },
  response_body: Buffer.from('paid'),
};
const FINAL = {
  state: 'final',
  raised: false,
  response: { status: 201, headers: { 'content-type': 'text/plain' }, body: Buffer.from('paid') },
  expiresAtMs: NOW + 1_000,
};

const makeStore = (sealing?: Sealer): IdempotencyStore =>
  new IdempotencyStore(
    'idempotency_keys',
    { connect: () => Promise.reject(new Error('no connection is needed')) },
    180004,
    sealing,
  );
const describeRow = (row: object | undefined, store = makeStore()): unknown =>
  store.describe(IDENTITY.keyHash, row, performance.now());

describe('what a row says', () => {
  it.each<[string, object | undefined, unknown]>([
    ['no row', undefined, { state: 'absent' }],
    ['a success', READ, FINAL],
    ['an error that the handler threw', { ...READ, status: 'error' }, { ...FINAL, raised: true }],
    ['another payload', { ...READ, same: false }, { state: 'reused' }],
    ['one that is being made new', { ...READ, same: false, expired: true }, { state: 'in-flight' }],
    ['a released one', { ...READ, status: 'error', response_status: null }, { state: 'released' }],
    ['a held one', { ...READ, status: 'pending', response_status: null }, { state: 'in-flight' }],
    [
      'a running lease',
      { ...READ, status: 'pending', response_status: null, lease_over: false },
      { state: 'in-flight' },
    ],
    [
      'a lease that is over',
      { ...READ, status: 'pending', response_status: null, lease_over: true, abandoned: 2 },
      { state: 'unowned', abandoned: 2 },
    ],
  ])('of %s', (_what, row, record) => {
    expect(describeRow(row)).toEqual(record);
  });

  it('refuses the record of a newer version before it looks at anything else', () => {
    expect(describeRow({ ...READ, format: 3, expired: true, same: false })).toEqual({
      state: 'unreadable',
      cause: new Error('the record has format 3, written by a newer version of the library'),
    });
  });

  it('is unreadable when its answer cannot be opened', () => {
    expect(describeRow({ ...READ, format: 2 })).toEqual({
      state: 'unreadable',
      cause: new Error('the answer is encrypted and the module has no encryptionKeys'),
    });
  });

  it('tells what time it is in the database', () => {
    const store = makeStore();
    expect(store.clock.latest()).toBeUndefined();
    describeRow({ ...READ, same: false }, store);
    expect(store.clock.latest()).toBeGreaterThanOrEqual(NOW);
  });
});

describe('a final outcome that the standbys may not have', () => {
  const standby = (command: string) => {
    const { session } = scriptedSession();
    const batch = vi.fn((_statements: readonly Statement[]) => Promise.resolve([{ command }]));
    return { session: Object.assign(session, { batch }) as unknown as Session, batch };
  };
  const find = (session: Session, row: object, inTransaction?: boolean): Promise<unknown> =>
    makeStore().found(session, IDENTITY.keyHash, row, {
      askedAt: 0,
      ...(inTransaction === undefined ? {} : { inTransaction }),
    });

  it.each([
    [undefined, 'COMMIT'],
    [true, 'COMMIT AND CHAIN'],
  ])('is answered when they have it (in a transaction: %s)', async (inTransaction, commit) => {
    const { session, batch } = standby('COMMIT');
    expect(await find(session, { ...READ, standby_awaited: true }, inTransaction)).toEqual(FINAL);
    expect(batch.mock.calls[0]?.[0].at(-1)?.text).toBe(commit);
  });

  it('is not answered when they do not come to have it', async () => {
    const { session } = standby('ROLLBACK');
    await expect(find(session, { ...READ, standby_awaited: true })).rejects.toThrow('ROLLBACK');
  });

  it.each([READ, { ...READ, same: false, standby_awaited: true }])(
    'is waited for when it is one, and where standbys are waited for: %o',
    async (row) => {
      const { session, batch } = standby('COMMIT');
      await find(session, row);
      expect(batch).not.toHaveBeenCalled();
    },
  );
});

describe('the end of an attempt', () => {
  /** A session that answers its batches in turn, and writes down what was sent. */
  function batching(...outcomes: (readonly Partial<BatchAnswer>[] | Error)[]) {
    const made = scriptedSession();
    const batch = vi.fn((_statements: readonly Statement[], _onSent?: unknown) => {
      const outcome = outcomes.shift() ?? [{ command: 'COMMIT' }];
      return outcome instanceof Error ? Promise.reject(outcome) : Promise.resolve(outcome);
    });
    const sent = (call = 0): readonly Statement[] => batch.mock.calls[call]?.[0] ?? [];
    return { ...made, session: Object.assign(made.session, { batch }) as unknown as Session, batch, sent };
  }
  const store = makeStore();
  const { sql } = store;

  it('completes outside the savepoint of the handler', async () => {
    const { session, sent, batch } = batching();
    const onSent = vi.fn();
    const outcome = {
      keyHash: IDENTITY.keyHash,
      attempt: 1,
      status: 'completed',
      response: PAID,
      onSent,
    } as const;
    expect(await store.complete(session, outcome)).toMatchObject({ kind: 'committed' });
    expect(sent()).toEqual([
      { text: 'RELEASE SAVEPOINT handler' },
      { text: sql.COMPLETE, values: [IDENTITY.keyHash, 1, 'completed', 201, '{}', PAID.body, null, 1] },
      { text: 'COMMIT' },
    ]);
    expect(batch.mock.calls[0]?.[1]).toBe(onSent);
  });

  it('rolls back what the handler wrote before it completes with an error', async () => {
    const { session, sent } = batching();
    const error = new TypeError('out of stock');
    await store.complete(session, {
      keyHash: IDENTITY.keyHash,
      attempt: 2,
      status: 'error',
      response: PAID,
      error,
    });
    expect(sent().map(({ text }) => text)).toEqual([
      'ROLLBACK TO SAVEPOINT handler',
      'RELEASE SAVEPOINT handler',
      sql.COMPLETE,
      'COMMIT',
    ]);
    expect(sent()[2]?.values?.[6]).toBe('TypeError: out of stock');
  });

  it('is unknown when a failover may take it back', async () => {
    const { session, client, batch } = batching();
    batch.mockImplementation(() => {
      client.emit('notice', { routine: 'SyncRepWaitForLSN' });
      return Promise.resolve([{ command: 'COMMIT' }]);
    });
    const outcome = { keyHash: IDENTITY.keyHash, attempt: 1, status: 'completed', response: PAID } as const;
    expect(await store.complete(session, outcome)).toEqual({
      kind: 'unknown',
      cause: new NotReplicatedError(),
    });
  });

  it.each([
    { began: true, attempt: 1, text: sql.RELEASE, values: [IDENTITY.keyHash, 1, 'Error: no', LIFE.born] },
    { began: false, attempt: 2, text: sql.RELEASE, values: [IDENTITY.keyHash, 2, 'Error: no', LIFE.born] },
    { began: false, attempt: 1, text: sql.FORGET, values: [IDENTITY.keyHash, 1] },
  ])('gives the key back (began: $began, attempt: $attempt)', async ({ began, attempt, text, values }) => {
    const { session, sent } = batching();
    const error = new Error('no');
    expect(await store.release(session, { ...LIFE, attempt, error, began })).toMatchObject({
      kind: 'committed',
    });
    expect(sent()).toEqual([
      { text: 'ROLLBACK TO SAVEPOINT handler' },
      { text: 'RELEASE SAVEPOINT handler' },
      { text, values },
      { text: 'COMMIT' },
    ]);
  });

  it('gives the key back on another connection, within a time', async () => {
    const { session, client } = scriptedSession((text) => ({ command: text }));
    await store.giveBack(session, { ...LIFE, error: new Error('gone'), waitMs: 1_000 });
    expect(client.sent).toEqual([sql.BEGIN, sql.LIMIT_WAIT, sql.RELEASE, 'COMMIT']);
    expect(client.values.slice(1, 3)).toEqual([[1_000], [IDENTITY.keyHash, 1, 'Error: gone', LIFE.born]]);
  });

  it('counts the next attempt outside the savepoint', async () => {
    const { session, sent } = batching([{}, { rowCount: 1 }, { command: 'COMMIT' }]);
    await store.reclaim(session, IDENTITY, { attempt: 1, abandoned: 1, ttlMs: 60_000 });
    expect(sent()).toEqual([
      { text: 'RELEASE SAVEPOINT handler' },
      {
        text: sql.RECLAIM,
        values: [IDENTITY.keyHash, 1, 1, IDENTITY.operation, IDENTITY.fingerprint, 60_000],
      },
      { text: 'COMMIT' },
    ]);
  });

  it('counts nothing for an attempt that does not hold the record, nor when it is refused', async () => {
    const counting = { attempt: 7, abandoned: 1, ttlMs: 60_000 };
    const { session } = batching([{}, { rowCount: 0 }, { command: 'COMMIT' }], [{ command: 'ROLLBACK' }]);
    await expect(store.reclaim(session, IDENTITY, counting)).rejects.toMatchObject({
      name: 'StaleAttemptError',
      message: 'attempt 7 does not hold the record any more',
    });
    const refused = store.reclaim(session, IDENTITY, counting);
    await expect(refused).rejects.toThrow('PostgreSQL answered COMMIT with ROLLBACK');
    await expect(refused).rejects.not.toThrow(StaleAttemptError);
  });

  it('undoes the handler by its savepoint', async () => {
    const { session, client } = scriptedSession();
    await store.undoHandler(session);
    expect(client.sent).toEqual(['ROLLBACK TO SAVEPOINT handler']);
  });
});

describe('what stays of an error', () => {
  it.each([
    [new TypeError('no such item'), 'TypeError: no such item'],
    ['a text', 'a text'],
    [{ toString: (): string => 'an object' }, 'an object'],
    [undefined, 'undefined'],
    [new Error('with \0 in it\0'), 'Error: with  in it'],
    [new Error('x'.repeat(600)), `Error: ${'x'.repeat(493)}`],
  ])('of %o', (error, text) => {
    expect(describeError(error)).toBe(text);
  });
});
