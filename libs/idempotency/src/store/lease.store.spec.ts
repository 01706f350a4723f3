import { describe, expect, it, vi } from 'vitest';
import { NOW, READ_ROW } from '../../../../test/support/read-row.js';
import { type Answers, scriptedSession } from '../../../../test/support/scripted-client.js';
import { FENCE } from '../../../../test/support/lease-engine.js';
import { IDENTITY, PAID } from '../../../../test/support/engine-script.js';
import { Sealer } from '../sealing/sealer.js';
import { IdempotencyStore } from './idempotency.store.js';
import type { JournalEntry } from './journal-entry.js';
import { LeaseStore } from './lease.store.js';
import { NotReplicatedError } from './replication.js';

const FENCED = [FENCE.keyHash, FENCE.attempt, FENCE.born];
const OPTIONS = { ttlMs: 60_000, leaseMs: 30_000, retryAbandoned: true, maxAttempts: 3 };
const PENDING = { ...READ_ROW, abandoned: 1, lease_over: true };
const failed = new Error('failed');

const makeStore = (sealing?: Sealer): LeaseStore =>
  new LeaseStore(
    new IdempotencyStore(
      'idempotency_keys',
      { connect: () => Promise.reject(new Error('no connection is needed')) },
      180004,
      sealing,
    ),
  );
const store = makeStore();
const { sql, records } = store;

/** A session on which these statements are answered with that, and all others with nothing. */
const answering = (answers: Record<string, ReturnType<Answers>>, pipeline?: boolean) =>
  scriptedSession((text) => answers[text] ?? {}, pipeline);
const claimedAs = (row: object) => ({
  [sql.CLAIM]: { rows: [{ attempt: 1, born: FENCE.born, resumed: false, ...row }] },
});
const lost = { routine: 'SyncRepWaitForLSN' };

describe('a claim of lease mode', () => {
  it('keeps its request, and has no journal in its first attempt', async () => {
    const { session, client } = answering(claimedAs({}));
    const request = Buffer.from('request');
    expect(await store.claim(session, IDENTITY, { ...OPTIONS, request })).toEqual({
      kind: 'claimed',
      fence: FENCE,
      resumed: false,
      journal: [],
    });
    expect(client.sent).toEqual([sql.CLAIM, records.sql.READ]);
    const { keyHash, namespace, scope, key, operation, fingerprint } = IDENTITY;
    expect(client.values).toEqual([
      [
        keyHash,
        namespace,
        scope,
        key,
        operation,
        fingerprint,
        60_000,
        30_000,
        true,
        3,
        Buffer.from('\0request'),
      ],
      [keyHash, fingerprint],
    ]);
  });

  it('keeps none that it was not given', async () => {
    const { session, client } = answering(claimedAs({}));
    await store.claim(session, IDENTITY, OPTIONS);
    expect(client.values[0]?.at(-1)).toBeNull();
  });

  it('has the journal of the attempts before', async () => {
    const entry = { name: 'charge', position: 1, kind: 'step', attempt: 1, raised: false };
    const { session, client } = answering({
      ...claimedAs({ attempt: 2, resumed: true }),
      [sql.JOURNAL]: { rows: [{ ...entry, content_type: 'text/plain', body: Buffer.from('\0ch_1') }] },
    });
    expect(await store.claim(session, IDENTITY, OPTIONS)).toEqual({
      kind: 'claimed',
      fence: { ...FENCE, attempt: 2 },
      resumed: true,
      journal: [{ ...entry, contentType: 'text/plain', body: Buffer.from('ch_1') }],
    });
    expect(client.values.at(-1)).toEqual([IDENTITY.keyHash]);
  });

  it('leaves a record alone whose journal cannot be opened', async () => {
    const body = Buffer.concat([Buffer.of(1), Buffer.from('sealed')]);
    const { session, client } = answering({
      ...claimedAs({ attempt: 2, resumed: true }),
      [sql.JOURNAL]: { rows: [{ name: 'charge', content_type: null, body }] },
    });
    const cause = new Error('the step is encrypted and the module has no encryptionKeys');
    expect(await store.claim(session, IDENTITY, OPTIONS)).toEqual({
      kind: 'not-claimed',
      record: { state: 'unreadable', cause },
    });
    expect(client.sent.at(-1)).toBe(sql.ABANDON);
    expect(client.values.at(-1)).toEqual([IDENTITY.keyHash, 2, FENCE.born, `Error: ${cause.message}`]);
  });

  it('is given back when a failover may take it back', async () => {
    const { session, client } = scriptedSession((text) => {
      if (text !== sql.CLAIM) return {};
      client.emit('notice', lost);
      return { rows: [{ attempt: 2, born: FENCE.born, resumed: true }] };
    });
    await expect(store.claim(session, IDENTITY, OPTIONS)).rejects.toThrow(NotReplicatedError);
    expect(client.sent).toEqual([sql.CLAIM, records.sql.READ, sql.UNCLAIM]);
    expect(client.values.at(-1)).toEqual([IDENTITY.keyHash, 2, FENCE.born, true]);
  });

  it('is not taken for such a one because of a commit before it', async () => {
    const { session, client } = answering(claimedAs({}));
    client.emit('notice', lost);
    expect(await store.claim(session, IDENTITY, OPTIONS)).toMatchObject({ kind: 'claimed' });
  });

  it.each(['CLAIM', 'READ'] as const)('fails when its %s does', async (statement) => {
    const text = statement === 'CLAIM' ? sql.CLAIM : records.sql.READ;
    const { session } = scriptedSession((sent) =>
      sent === text ? Promise.reject(failed) : (claimedAs({})[sent] ?? {}),
    );
    await expect(store.claim(session, IDENTITY, OPTIONS)).rejects.toBe(failed);
  });

  it.each([
    [1, { state: 'unowned', abandoned: 1 }],
    [0, { state: 'in-flight' }],
  ])('finds a record whose lease is over, with %i rows that nobody holds', async (rowCount, record) => {
    const answers = { [records.sql.READ]: { rows: [PENDING] }, [sql.UNHELD]: { rowCount } };
    const [claimer, reader] = [makeStore(), makeStore()];
    const claiming = answering(answers);
    expect(await claimer.claim(claiming.session, IDENTITY, OPTIONS)).toEqual({ kind: 'not-claimed', record });
    const reading = answering(answers);
    expect(await reader.read(reading.session, IDENTITY)).toEqual(record);
    // Both have heard what time it is in the database.
    for (const { records: heard } of [claimer, reader]) {
      expect(heard.clock.latest()).toBeGreaterThanOrEqual(NOW);
    }
    expect(reading.client.values).toEqual([[IDENTITY.keyHash, IDENTITY.fingerprint], [IDENTITY.keyHash]]);
  });

  it('does not ask who holds a record whose lease runs', async () => {
    const { session, client } = answering({
      [records.sql.READ]: { rows: [{ ...PENDING, lease_over: false }] },
    });
    expect(await store.read(session, IDENTITY)).toEqual({ state: 'in-flight' });
    expect(client.sent).toEqual([records.sql.READ]);
  });
});

describe('a write of lease mode', () => {
  const entry: JournalEntry = {
    name: 'charge',
    position: 2,
    kind: 'step',
    attempt: 1,
    raised: false,
    contentType: 'text/plain',
    body: Buffer.from('ch_1'),
  };
  const ENTRY = ['charge', 2, 'step', false, 'text/plain', Buffer.from('\0ch_1')];

  it.each<[string, (on: Parameters<LeaseStore['renew']>[0]) => Promise<boolean>, string, unknown[]]>([
    ['renew', (on) => store.renew(on, FENCE, 30_000), sql.RENEW, [...FENCED, 30_000]],
    ['release', (on) => store.release(on, FENCE, failed), sql.RELEASE, [...FENCED, 'Error: failed']],
    ['abandon', (on) => store.abandon(on, FENCE, failed), sql.ABANDON, [...FENCED, 'Error: failed']],
    ['forget', (on) => store.forget(on, FENCE), sql.FORGET, FENCED],
  ])('%s goes through the fence, or not', async (_name, write, text, values) => {
    for (const rowCount of [1, 0]) {
      const { session, client } = answering({ [text]: { rowCount } });
      expect(await write(session)).toBe(rowCount === 1);
      expect([client.sent, client.values]).toEqual([[text], [values]]);
    }
  });

  it('journals a step through the fence', async () => {
    for (const fenced of [1, 0]) {
      const { session, client } = answering({ [sql.JOURNAL_STEP]: { rows: [{ fenced }] } });
      expect(await store.journalStep(session, FENCE, entry, 30_000)).toBe(fenced === 1);
      expect(client.values).toEqual([[...FENCED, 30_000, ...ENTRY]]);
    }
    expect(await store.journalStep(scriptedSession().session, FENCE, entry, 30_000)).toBe(false);
  });

  it('opens a phase on the record that it holds', async () => {
    for (const rowCount of [1, 0]) {
      const { session, client } = answering({ [sql.PHASE]: { rowCount } });
      expect(await store.openPhase(session, FENCE, { idleMs: 1_000, maxRuntimeMs: 60_000 })).toBe(
        rowCount === 1,
      );
      expect(client.sent).toEqual(['BEGIN ISOLATION LEVEL READ COMMITTED', sql.PHASE]);
      expect(client.values[1]).toEqual([...FENCED, 1_000, 60_000]);
    }
    const { session } = answering({ [sql.PHASE]: Promise.reject(failed) });
    await expect(store.openPhase(session, FENCE, { idleMs: 1, maxRuntimeMs: 1 })).rejects.toBe(failed);
  });

  it('commits a phase with its journal entry', async () => {
    const { session, client } = scriptedSession();
    const batch = vi.fn((..._args: unknown[]) => Promise.resolve([{ command: 'COMMIT' }]));
    Object.assign(session, { batch });
    const onSent = vi.fn();
    expect(
      await store.commitPhase(session, FENCE, { ...entry, kind: 'phase' }, 30_000, onSent),
    ).toMatchObject({
      kind: 'committed',
    });
    const values = [...FENCED, 30_000, 'charge', 2, 'phase', ...ENTRY.slice(3)];
    expect(batch).toHaveBeenCalledExactlyOnceWith(
      [{ text: sql.JOURNAL_PHASE, values }, { text: 'COMMIT' }],
      onSent,
    );
    batch.mockImplementation(() => {
      client.emit('notice', lost);
      return Promise.resolve([{ command: 'COMMIT' }]);
    });
    expect(await store.commitPhase(session, FENCE, entry, 30_000, onSent)).toMatchObject({ kind: 'unknown' });
  });

  it.each([
    [1, true],
    [0, false],
  ])('asks after a phase on another connection, and finds %i entries', async (rowCount, isFound) => {
    const { session, client } = answering({ [sql.PHASE_FOUND]: { rowCount } });
    const batch = vi.fn((..._args: unknown[]) => Promise.resolve([{ command: 'COMMIT' }]));
    Object.assign(session, { batch });
    expect(await store.phaseSettled(session, FENCE, 'reserve', 5_000)).toBe(isFound);
    expect(client.sent).toEqual([
      'BEGIN ISOLATION LEVEL READ COMMITTED',
      records.sql.LIMIT_WAIT,
      sql.PHASE_OVER,
      sql.PHASE_FOUND,
      'ROLLBACK',
    ]);
    expect(client.values.slice(1, 4)).toEqual([[5_000], [FENCE.keyHash], [FENCE.keyHash, 'reserve', 1]]);
    // What is found is waited for until the standbys have it too.
    expect(batch).toHaveBeenCalledTimes(isFound ? 1 : 0);
    if (isFound) expect(batch.mock.calls[0]?.[0]).toMatchObject([{}, { values: [5_000] }, {}]);
  });

  it('cannot tell of a phase whose record stays held', async () => {
    const { session } = answering({ [sql.PHASE_OVER]: Promise.reject(failed) });
    await expect(store.phaseSettled(session, FENCE, 'reserve', 5_000)).rejects.toBe(failed);
  });

  it('completes through the fence, and hears when the record expires and what time it is', async () => {
    const own = makeStore();
    const row = { expires_at_ms: NOW + 60_000, database_now_ms: NOW };
    const { session, client } = answering({ [sql.COMPLETE]: { rows: [row] } });
    const outcome = { status: 'completed', response: PAID } as const;
    expect(await own.complete(session, FENCE, outcome, 60_000)).toEqual({ expiresAtMs: NOW + 60_000 });
    expect(client.values).toEqual([[...FENCED, 'completed', 1, 201, '{}', PAID.body, null, 60_000]]);
    expect(own.records.clock.latest()).toBeGreaterThanOrEqual(NOW);

    const other = scriptedSession();
    const error = { status: 'error', response: PAID, error: failed } as const;
    expect(await own.complete(other.session, FENCE, error, 60_000)).toBe(false);
    expect(other.client.values[0]?.slice(3, 4)).toEqual(['error']);
    expect(other.client.values[0]?.at(-2)).toBe('Error: failed');
  });

  it.each(['complete', 'journalStep'] as const)(
    'is none when a failover may take it back: %s',
    async (method) => {
      const { session, client } = scriptedSession(() => {
        client.emit('notice', lost);
        return { rows: [{ expires_at_ms: 1, database_now_ms: 1, fenced: 1 }] };
      });
      const outcome = { status: 'completed', response: PAID } as const;
      const writing =
        method === 'complete'
          ? store.complete(session, FENCE, outcome, 60_000)
          : store.journalStep(session, FENCE, entry, 30_000);
      await expect(writing).rejects.toThrow(NotReplicatedError);
    },
  );

  it.each([1, 0])(
    'is found again when the record has its number (%i rows), and stands on the standbys',
    async (rowCount) => {
      const { session, client } = answering({ [sql.WRITTEN]: { rowCount } });
      const batch = vi.fn((..._args: unknown[]) => Promise.resolve([{ command: 'COMMIT' }]));
      Object.assign(session, { batch });
      expect(await store.isWritten(session, FENCE)).toBe(rowCount === 1);
      expect(client.values).toEqual([FENCED]);
      expect(batch).toHaveBeenCalledTimes(rowCount);
    },
  );
});

describe('the list of abandoned records', () => {
  const row = {
    key_hash: IDENTITY.keyHash,
    scope: 'alice',
    key: 'order-41',
    operation: 'POST /orders',
    fingerprint: IDENTITY.fingerprint,
    abandoned: 1,
    request: Buffer.from('\0request'),
    since: '2026-11-24 16:43:14+00',
  };
  const record = { identity: IDENTITY, abandoned: 1, since: row.since, request: Buffer.from('request') };

  it('goes on behind the last one', async () => {
    const { session, client } = answering({ [sql.ABANDONED]: { rows: [row] } });
    expect(await store.abandoned(session, 'default', { graceMs: 5_000, limit: 10 })).toEqual([record]);
    await store.abandoned(session, 'default', { graceMs: 5_000, limit: 10, after: record });
    expect(client.values).toEqual([
      ['default', 5_000, null, null, 10],
      ['default', 5_000, row.since, IDENTITY.keyHash, 10],
    ]);
  });

  it('tells of a request that cannot be opened', async () => {
    const { session } = answering({ [sql.ABANDONED]: { rows: [{ ...row, request: Buffer.of(1, 2, 3) }] } });
    expect(await store.abandoned(session, 'default', { graceMs: 5_000, limit: 10 })).toEqual([
      { ...record, request: undefined },
    ]);
  });

  it('is opened, with the journal, by what has sealed it', async () => {
    const sealed = makeStore(new Sealer([Buffer.alloc(32, 7)]));
    const writing = scriptedSession();
    const step: JournalEntry = {
      name: 'charge',
      position: 1,
      kind: 'step',
      attempt: 1,
      raised: false,
      contentType: null,
      body: Buffer.from('ch_1'),
    };
    await sealed.journalStep(writing.session, FENCE, step, 30_000);
    const body = writing.client.values[0]?.at(-1) as Buffer;
    expect(body.includes('ch_1')).toBe(false);
    const { session } = answering({
      ...claimedAs({ attempt: 2 }),
      [sql.JOURNAL]: { rows: [{ ...step, content_type: null, body }] },
    });
    expect(await sealed.claim(session, IDENTITY, OPTIONS)).toMatchObject({ journal: [{ body: step.body }] });
  });

  it('asks its records for a connection', async () => {
    await expect(store.open(100)).rejects.toThrow('no connection is needed');
  });

  it('opens what was sealed as a request', async () => {
    const sealed = makeStore(new Sealer([Buffer.alloc(32, 7)]));
    const claiming = answering(claimedAs({}));
    await sealed.claim(claiming.session, IDENTITY, { ...OPTIONS, request: Buffer.from('request') });
    const stored = claiming.client.values[0]?.at(-1) as Buffer;
    expect(stored.includes('request')).toBe(false);
    const { session } = answering({ [sql.ABANDONED]: { rows: [{ ...row, request: stored }] } });
    expect(await sealed.abandoned(session, 'default', { graceMs: 5_000, limit: 10 })).toEqual([record]);
  });
});
