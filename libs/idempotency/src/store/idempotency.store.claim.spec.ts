import { describe, expect, it, vi } from 'vitest';
import { NOW, READ_ROW } from '../../../../test/support/read-row.js';
import { type Answers, scriptedSession } from '../../../../test/support/scripted-client.js';
import { IDENTITY } from '../../../../test/support/engine-script.js';
import { LIFE } from '../../../../test/support/transaction-engine.js';
import type { BatchAnswer } from './batch.js';
import { IdempotencyStore } from './idempotency.store.js';
import type { Session, Statement } from './session.js';

const POLICY = { ttlMs: 60_000, maxRuntimeMs: 30_000 };
const { keyHash, namespace, scope, key, operation, fingerprint } = IDENTITY;

/** A row that stands, and that LOCK did not get. */
const READ = { ...READ_ROW, locked_attempt: null };
/** One that it got: what was locked is another version than what READ saw. */
const LOCKED = {
  locked_attempt: 2,
  locked_abandoned: 1,
  locked_status: 'pending',
  locked_expired: false,
  locked_expires_at_ms: NOW + 2_000,
  born: LIFE.born,
  begun: false,
  xid: LIFE.xid,
};
const RECORD = {
  attempt: 2,
  abandoned: 1,
  status: 'pending',
  expired: false,
  begun: false,
  born: LIFE.born,
  xid: LIFE.xid,
  expiresAtMs: NOW + 2_000,
};
const final = { ...READ, status: 'completed', response_status: 201, standby_awaited: true };

const makeStore = (): IdempotencyStore =>
  new IdempotencyStore(
    'idempotency_keys',
    { connect: () => Promise.reject(new Error('no connection is needed')) },
    180004,
  );
const store = makeStore();
const { sql } = store;
const CLAIM: Statement[] = [
  { text: sql.BEGIN },
  { text: sql.CLAIM, values: [keyHash, namespace, scope, key, operation, fingerprint, 60_000] },
  { text: sql.COMMIT_AND_CHAIN },
];

/** A session whose batches come to these outcomes in turn: a row for a statement, or an error. */
function session(outcomes: ((text: string) => object | undefined)[], answers?: Answers) {
  const made = scriptedSession(answers);
  const batch = vi.fn((statements: readonly Statement[]): Promise<readonly BatchAnswer[]> => {
    const rowOf = outcomes.length > 1 ? outcomes.shift() : outcomes[0];
    try {
      return Promise.resolve(
        statements.map(({ text }) => {
          const row = rowOf?.(text);
          return {
            command: text.split(' ', 1)[0] ?? '',
            rowCount: row ? 1 : 0,
            rows: row ? [{ ...row }] : [],
          };
        }),
      );
    } catch (error) {
      return Promise.reject(error);
    }
  });
  return { ...made, session: Object.assign(made.session, { batch }) as unknown as Session, batch };
}
const failing = (code: string) => (): never => {
  throw Object.assign(new Error(code), { code });
};
const looking = (row: object | undefined) => (text: string) => (text === sql.LOCK_OR_READ ? row : undefined);

describe('a claim that waits for nobody', () => {
  it('is one batch, and holds what it locked', async () => {
    const own = makeStore();
    const { session: on, batch } = session([looking({ ...READ, ...LOCKED })]);
    expect(await own.claim(on, IDENTITY, POLICY)).toEqual({ kind: 'locked', record: RECORD });
    expect(batch).toHaveBeenCalledExactlyOnceWith([
      ...CLAIM,
      { text: sql.LOCK_OR_READ, values: [keyHash, fingerprint, 30_000] },
      { text: sql.SAVEPOINT },
    ]);
    expect(own.clock.latest()).toBeGreaterThanOrEqual(NOW);
  });

  it.each([
    [READ, { state: 'in-flight' }],
    [undefined, { state: 'absent' }],
  ])('tells of %o what stands there', async (row, record) => {
    const { session: on } = session([looking(row)]);
    expect(await store.claim(on, IDENTITY, POLICY)).toEqual({ kind: 'not-locked', record });
  });

  it('waits for the standbys in its own transaction before it tells of an outcome', async () => {
    const { session: on, batch } = session([looking(final)]);
    expect(await store.claim(on, IDENTITY, POLICY)).toMatchObject({ record: { state: 'final' } });
    expect(batch.mock.calls[1]?.[0].at(-1)).toEqual({ text: 'COMMIT AND CHAIN' });
  });

  it('is sent again when the connection has forgotten what it had prepared', async () => {
    const { session: on, batch, client } = session([failing('26000'), looking({ ...READ, ...LOCKED })]);
    expect(await store.claim(on, IDENTITY, POLICY)).toMatchObject({ kind: 'locked' });
    expect(client.sent).toEqual(['ROLLBACK']);
    expect(batch.mock.calls[1]?.[0]).toEqual(batch.mock.calls[0]?.[0]);
  });

  it.each(['55P03', '40001', '26001'])('is sent once when it fails otherwise (%s)', async (code) => {
    const { session: on, batch, client } = session([failing(code)]);
    await expect(store.claim(on, IDENTITY, POLICY)).rejects.toMatchObject({ code });
    expect([batch.mock.calls.length, client.sent]).toEqual([1, []]);
  });
});

describe('a claim that waits', () => {
  const WAITING = { ...POLICY, waitMs: 250.5 };
  const LIMIT = { previous: '7s' };
  const rows =
    (locked: object | undefined, read: object | undefined = READ) =>
    (text: string) => {
      if (text === sql.LIMIT_WAIT) return LIMIT;
      if (text === sql.LOCK_WAITING) return locked;
      return text === sql.READ ? read : undefined;
    };
  const { xid: _, expiresAtMs, ...UNNUMBERED } = RECORD;

  it('puts the limit of waits back, and hears which transaction holds the record', async () => {
    const own = makeStore();
    const {
      session: on,
      batch,
      client,
    } = session([rows({ ...UNNUMBERED, expires_at_ms: expiresAtMs })], (text) =>
      text === sql.UNLIMIT_WAIT ? { rows: [{ xid: LIFE.xid }] } : {},
    );
    expect(await own.claim(on, IDENTITY, WAITING)).toEqual({ kind: 'locked', record: RECORD });
    expect(batch).toHaveBeenCalledExactlyOnceWith([
      ...CLAIM,
      { text: sql.LIMIT_WAIT, values: [251] },
      { text: sql.LOCK_WAITING, values: [keyHash, fingerprint, 30_000] },
      { text: sql.READ, values: [keyHash, fingerprint] },
      { text: sql.SAVEPOINT },
    ]);
    expect([client.sent, client.values]).toEqual([[sql.UNLIMIT_WAIT], [['7s']]]);
    expect(own.clock.latest()).toBeGreaterThanOrEqual(NOW);
  });

  it.each([
    [0, 1],
    [1, 1],
    [1.2, 2],
  ])('lasts whole milliseconds, and one at least: of %d', async (waitMs, sent) => {
    const { session: on, batch } = session([rows(undefined)]);
    await store.claim(on, IDENTITY, { ...POLICY, waitMs });
    expect(batch.mock.calls[0]?.[0][3]?.values).toEqual([sent]);
  });

  it('tells what stands in a record that it did not get', async () => {
    const { session: on, client } = session([rows(undefined)]);
    expect(await store.claim(on, IDENTITY, WAITING)).toEqual({
      kind: 'not-locked',
      record: { state: 'in-flight' },
    });
    expect(client.sent).toEqual([]);
  });

  it('waits for the standbys in its own transaction before it tells of an outcome', async () => {
    const { session: on, batch } = session([rows(undefined, final)]);
    expect(await store.claim(on, IDENTITY, WAITING)).toMatchObject({ record: { state: 'final' } });
    expect(batch.mock.calls[1]?.[0].at(-1)).toEqual({ text: 'COMMIT AND CHAIN' });
  });

  it('is over when the row stays locked', async () => {
    const { session: on } = session([failing('55P03')]);
    expect(await store.claim(on, IDENTITY, WAITING)).toEqual({ kind: 'wait-over' });
  });

  it('fails with every other error', async () => {
    const { session: on } = session([failing('40001')]);
    await expect(store.claim(on, IDENTITY, WAITING)).rejects.toMatchObject({ code: '40001' });
  });
});

describe('a look', () => {
  it('is one statement, in no transaction', async () => {
    const own = makeStore();
    const { session: on, batch } = session([(text) => (text === sql.LOOK ? READ : undefined)]);
    expect(await own.look(on, IDENTITY)).toEqual({ state: 'in-flight' });
    expect(batch).toHaveBeenCalledExactlyOnceWith([{ text: sql.LOOK, values: [keyHash, fingerprint] }]);
    expect(own.clock.latest()).toBeGreaterThanOrEqual(NOW);
  });

  it('finds nothing where nothing is', async () => {
    expect(await store.look(session([() => undefined]).session, IDENTITY)).toEqual({ state: 'absent' });
  });
});

describe('the question after an attempt whose COMMIT was not answered', () => {
  const SETTLED = { status: 'completed', attempt: 1, born: LIFE.born, written_by: LIFE.xid };
  const asking = (row: object | undefined) => {
    const made = session([() => undefined], (text) =>
      text === sql.SETTLED ? { rows: row ? [row] : [] } : {},
    );
    made.batch.mockImplementation(() => Promise.resolve([{ command: 'COMMIT', rowCount: 0, rows: [] }]));
    return { ...made, answer: store.settled(made.session, LIFE, 5_000) };
  };

  it('waits for its transaction to end, and for the standbys, to hear that it was committed', async () => {
    const { answer, client, batch } = asking(SETTLED);
    expect(await answer).toBe('committed');
    expect(client.sent).toEqual([sql.BEGIN, sql.LIMIT_WAIT, sql.SETTLED, 'ROLLBACK']);
    expect(client.values.slice(1, 3)).toEqual([[5_000], [keyHash]]);
    expect(batch.mock.calls[0]?.[0].at(-1)).toEqual({ text: 'COMMIT' });
    expect(batch.mock.calls[0]?.[0].at(-2)?.values).toEqual([5_000]);
  });

  it.each<[string, object | undefined, string]>([
    ['the record is not there', undefined, 'gone'],
    ['the key lives another life', { ...SETTLED, born: '17' }, 'gone'],
    ['another life has its number', { ...SETTLED, born: '17', status: 'pending' }, 'gone'],
    ['another attempt has written', { ...SETTLED, attempt: 2 }, 'rolled-back'],
    ['nothing was written', { ...SETTLED, status: 'pending' }, 'rolled-back'],
    ['another transaction has its number', { ...SETTLED, written_by: '732' }, 'gone'],
  ])('hears when %s', async (_when, row, answer) => {
    const asked = asking(row);
    expect(await asked.answer).toBe(answer);
    expect(asked.batch).not.toHaveBeenCalled();
  });

  it('fails when the row stays locked', async () => {
    const { session: on } = scriptedSession((text) => (text === sql.SETTLED ? failing('55P03')() : {}));
    await expect(store.settled(on, LIFE, 5_000)).rejects.toMatchObject({ code: '55P03' });
  });
});

it('opens a session on a connection of its source, and says why there is none', async () => {
  await expect(store.open(100)).rejects.toThrow('no connection is needed');
});
