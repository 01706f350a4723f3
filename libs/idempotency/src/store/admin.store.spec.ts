import { describe, expect, it, vi } from 'vitest';
import { type Answers, scriptedSession } from '../../../../test/support/scripted-client.js';
import { IDENTITY, PAID } from '../../../../test/support/engine-script.js';
import { AdminStore, type RecordQuery } from './admin.store.js';
import { IdempotencyStore } from './idempotency.store.js';

const { keyHash } = IDENTITY;
const at = (second: number): Date => new Date(Date.UTC(2026, 10, 24, 16, 43, second));
const failed = new Error('failed');

const store = new AdminStore(
  new IdempotencyStore(
    'idempotency_keys',
    { connect: () => Promise.reject(new Error('no connection is needed')) },
    180004,
  ),
);
const { sql } = store;

/** A session on which these statements are answered with that, and all others with nothing. */
const answering = (answers: Record<string, ReturnType<Answers>>) =>
  scriptedSession((text) => answers[text] ?? {});

const SUMMARY = {
  keyHash: keyHash.toString('hex'),
  namespace: 'default',
  scope: 'alice',
  key: 'order-41',
  operation: 'POST /orders',
  state: 'completed',
  attempt: 1,
  createdAt: at(0),
  completedAt: at(1),
  expiresAt: at(9),
  leaseUntil: null,
  responseStatus: 201,
  lastError: null,
};

describe('a page of records', () => {
  const query: RecordQuery = {
    namespace: 'default',
    scope: undefined,
    operation: undefined,
    state: undefined,
    limit: 2,
    after: undefined,
  };
  const placed = (place: string) => ({ ...SUMMARY, place });

  it('asks for one more than it shows, and filters by nothing that it was not given', async () => {
    const { session, client } = answering({ [sql.LIST]: { rows: [placed('1'), placed('2')] } });
    expect(await store.list(session, query)).toEqual({ records: [SUMMARY, SUMMARY], next: undefined });
    expect(client.values).toEqual([['default', null, null, null, null, null, 3]]);
  });

  it('tells where the next one begins', async () => {
    const rows = [placed('1'), placed('2'), placed('3')];
    const { session, client } = answering({ [sql.LIST]: { rows } });
    const after = { expires: '0', keyHash: Buffer.alloc(32, 9) };
    const filter = { scope: 'alice', operation: 'POST /orders', state: 'completed' } as const;
    expect(await store.list(session, { ...query, ...filter, after })).toEqual({
      records: [SUMMARY, SUMMARY],
      next: { expires: '2', keyHash },
    });
    expect(client.values).toEqual([['default', 'alice', 'POST /orders', 'completed', '0', after.keyHash, 3]]);
  });
});

describe('a record in all detail', () => {
  const RECORD = {
    ...SUMMARY,
    format: 1,
    response_headers: { 'content-type': 'text/plain' },
    response_body: Buffer.from('paid'),
  };
  const entry = { name: 'charge', kind: 'step', position: 1, attempt: 1, raised: false, createdAt: at(0) };
  const detailsOf = (record: object, entries: object[] = [], trail: object[] = []) => {
    const made = answering({
      [sql.RECORD]: { rows: [record] },
      [sql.JOURNAL]: { rows: entries },
      [sql.TRAIL]: { rows: trail },
    });
    return { ...made, details: store.details(made.session, keyHash) };
  };

  it('is of one moment', async () => {
    const decision = { action: 'release', attempt: 1, state: 'abandoned', actor: 'ada' };
    const { details, client } = detailsOf(RECORD, [], [decision]);
    expect(await details).toEqual({
      ...SUMMARY,
      journal: [],
      response: {
        kind: 'readable',
        status: 201,
        headers: { 'content-type': 'text/plain' },
        body: Buffer.from('paid'),
      },
      decisions: [decision],
    });
    expect(client.sent).toEqual([sql.LOOK, sql.RECORD, sql.JOURNAL, sql.TRAIL, 'COMMIT']);
    expect(client.values.slice(1, 4)).toEqual([[keyHash], [keyHash], [keyHash]]);
  });

  it('is none without a record, and fails with the first statement that does', async () => {
    expect(await store.details(scriptedSession().session, keyHash)).toBeUndefined();
    const { session } = answering({ [sql.JOURNAL]: Promise.reject(failed) });
    await expect(store.details(session, keyHash)).rejects.toBe(failed);
  });

  it.each<[string, object, unknown]>([
    ['nothing', { content_type: null, body: Buffer.of(0) }, { kind: 'nothing' }],
    [
      'JSON',
      { content_type: 'application/json', body: Buffer.from('\0{"id":1}') },
      { kind: 'json', value: { id: 1 } },
    ],
    [
      'bytes',
      { content_type: 'application/octet-stream', body: Buffer.of(0, 255, 1) },
      { kind: 'bytes', bytes: Buffer.of(255, 1) },
    ],
    [
      'what cannot be opened',
      { content_type: 'application/json', body: Buffer.of(1, 2) },
      { kind: 'unreadable', reason: 'the step is encrypted and the module has no encryptionKeys' },
    ],
  ])('has entries of %s', async (_what, row, result) => {
    const { details } = detailsOf(RECORD, [{ ...entry, ...row }]);
    expect(await details).toMatchObject({ journal: [{ ...entry, result }] });
    expect((await details)?.journal[0]).not.toHaveProperty('body');
  });

  it.each<[object, unknown]>([
    [{ responseStatus: null }, undefined],
    [{ format: 3 }, { kind: 'unreadable', status: 201, reason: 'format 3 is that of a newer version' }],
    [
      { format: 2 },
      {
        kind: 'unreadable',
        status: 201,
        reason: 'the answer is encrypted and the module has no encryptionKeys',
      },
    ],
  ])('has the answer that can be read, with %o', async (columns, response) => {
    const { details } = detailsOf({ ...RECORD, ...columns });
    expect((await details)?.response).toEqual(response);
  });
});

describe('a decision', () => {
  it('locks a record in one of some states, in a transaction of its own', async () => {
    const locked = { attempt: 1, operation: 'POST /orders', state: 'abandoned' };
    const { session, client } = answering({ [sql.LOCK]: { rows: [locked] } });
    await store.begin(session);
    expect(await store.lock(session, keyHash, ['abandoned', 'released'])).toEqual(locked);
    expect(client.sent).toEqual(['BEGIN ISOLATION LEVEL READ COMMITTED', sql.LOCK]);
    expect(client.values[1]).toEqual([keyHash, ['abandoned', 'released']]);
    expect(await store.lock(scriptedSession().session, keyHash, [])).toBeUndefined();
  });

  it('finds out why there is nothing to decide', async () => {
    const find = (row: object) => store.find(answering({ [sql.FIND]: { rows: [row] } }).session, keyHash);
    expect(await find({ state: 'in-flight', format: 1 })).toEqual({ state: 'in-flight', isKnown: true });
    expect(await find({ state: 'completed', format: 3 })).toEqual({ state: 'completed', isKnown: false });
    const { session, client } = scriptedSession();
    expect(await store.find(session, keyHash)).toBeUndefined();
    expect(client.values).toEqual([[keyHash]]);
  });

  it('tells the life of a key', async () => {
    const { session, client } = answering({ [sql.LIFE]: { rows: [{ born: '17' }] } });
    expect(await store.born(session, keyHash)).toBe('17');
    expect(client.values).toEqual([[keyHash]]);
    expect(await store.born(scriptedSession().session, keyHash)).toBeUndefined();
  });

  it.each<[string, (on: Parameters<AdminStore['begin']>[0]) => Promise<unknown>, [string, unknown[]][]]>([
    [
      'completes',
      (on) => store.complete(on, keyHash, PAID),
      [[sql.COMPLETE, [keyHash, 1, 201, '{}', PAID.body]]],
    ],
    ['releases with the journal', (on) => store.release(on, keyHash, 'keep'), [[sql.RELEASE, [keyHash]]]],
    [
      'releases without',
      (on) => store.release(on, keyHash, 'discard'),
      [
        [sql.RESTART, [keyHash]],
        [sql.FORGET_JOURNAL, [keyHash]],
      ],
    ],
    [
      'erases',
      (on) => store.erase(on, keyHash),
      [
        [sql.ERASE, [keyHash]],
        [sql.FORGET_JOURNAL, [keyHash]],
      ],
    ],
    [
      'is kept in the trail',
      (on) =>
        store.audit(on, keyHash, {
          action: 'release',
          attempt: 2,
          state: 'abandoned',
          actor: 'ada',
          reason: 'ticket 7',
        }),
      [[sql.AUDIT, [keyHash, 'release', 2, 'abandoned', 'ada', 'ticket 7']]],
    ],
  ])('%s', async (_what, decide, statements) => {
    const { session, client } = scriptedSession();
    await decide(session);
    expect(client.sent.map((text, index) => [text, client.values[index]])).toEqual(statements);
  });

  it.each([1, 0])('removes a record under which nothing was done (%i rows)', async (rowCount) => {
    const { session, client } = answering({ [sql.REMOVE]: { rowCount } });
    expect(await store.remove(session, keyHash)).toBe(rowCount === 1);
    expect(client.values).toEqual([[keyHash]]);
  });

  it('is unknown when a failover may take it back', async () => {
    const { session, client } = scriptedSession();
    const batch = vi.fn((..._args: unknown[]) => Promise.resolve([{ command: 'COMMIT' }]));
    Object.assign(session, { batch });
    expect(await store.commit(session)).toMatchObject({ kind: 'committed' });
    expect(batch).toHaveBeenCalledExactlyOnceWith([{ text: 'COMMIT' }], undefined);
    batch.mockImplementation(() => {
      client.emit('notice', { routine: 'SyncRepWaitForLSN' });
      return Promise.resolve([{ command: 'COMMIT' }]);
    });
    expect(await store.commit(session)).toMatchObject({ kind: 'unknown' });
  });
});
