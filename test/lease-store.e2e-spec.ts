import { createHash, randomUUID } from 'node:crypto';
import pg from 'pg';
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  it,
  inject,
  onTestFinished,
} from 'vitest';
import { acquire } from '../libs/idempotency/src/engine/acquire.js';
import { FinishedKeys } from '../libs/idempotency/src/engine/finished-keys.js';
import type { AttemptPolicy } from '../libs/idempotency/src/engine/policy.js';
import { Sealer } from '../libs/idempotency/src/sealing/sealer.js';
import type { AttemptIdentity } from '../libs/idempotency/src/store/identity.js';
import { IdempotencyStore } from '../libs/idempotency/src/store/idempotency.store.js';
import type { JournalEntry } from '../libs/idempotency/src/store/journal-entry.js';
import {
  type AbandonedRecord,
  type Fence,
  type LeaseClaim,
  type LeaseClaimOptions,
  LeaseStore,
} from '../libs/idempotency/src/store/lease.store.js';
import { migrate } from '../libs/idempotency/src/store/migrations/migrator.js';
import type { StoredResponse } from '../libs/idempotency/src/store/record.js';
import type { Session } from '../libs/idempotency/src/store/session.js';
import { isTransactionConflict } from '../libs/idempotency/src/store/sql-state.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { until } from './support/until.js';

const CALLERS = 50;
const TTL_MS = 600_000;
const LEASE_MS = 60_000;
const POLICY: LeaseClaimOptions = {
  ttlMs: 600_000,
  leaseMs: LEASE_MS,
  retryAbandoned: true,
  maxAttempts: 5,
};
const TRANSACTION_POLICY: AttemptPolicy = {
  mode: 'transaction',
  leaseMs: LEASE_MS,
  onAbandoned: 'retry',
  ttlMs: 600_000,
  maxRuntimeMs: 60_000,
  maxAttempts: 5,
  onInFlight: 'reject',
  waitTimeoutMs: 1_000,
};
const PHASE_BOUNDS = { idleMs: 60_000, maxRuntimeMs: 60_000 };
const CREATED: StoredResponse = { status: 201, headers: { etag: '"1"' }, body: Buffer.from('created') };
const IN_FLIGHT = { kind: 'not-claimed', record: { state: 'in-flight' } };
const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();

type Claimed = Extract<LeaseClaim, { kind: 'claimed' }>;

function identityOf(key: string, payload = 'payload', namespace = 'test'): AttemptIdentity {
  return {
    namespace,
    scope: '',
    key,
    keyHash: sha256(key),
    operation: 'POST /test',
    fingerprint: sha256(payload),
  };
}

const entryOf = (name: string, { attempt = 1, position = 1, text = '"done"' } = {}): JournalEntry => ({
  name,
  position,
  kind: 'step',
  attempt,
  raised: false,
  contentType: 'application/json',
  body: Buffer.from(text),
});

/** Whether it was, of what says more when it was. */
const written = async (answer: Promise<object | false>): Promise<boolean> => (await answer) !== false;

describe.each([{ pipeline: true }, { pipeline: false }])(
  'the lease store (pipeline: $pipeline)',
  ({ pipeline }) => {
    let database: TestDatabase;
    let pools: pg.Pool[];
    let store: LeaseStore;
    let identity: AttemptIdentity;
    let sessions: Session[];

    function storeOn(options: pg.PoolConfig = {}, sealer?: Sealer): LeaseStore {
      const pool = new pg.Pool({ connectionString: database.url, max: CALLERS, pipeline, ...options });
      pool.on('error', () => undefined);
      pools.push(pool);
      const connect = async (): Promise<{ client: pg.Client; release: (error?: Error) => void }> => {
        const client = await pool.connect();
        return { client: client as unknown as pg.Client, release: (error) => client.release(error) };
      };
      return new LeaseStore(
        new IdempotencyStore('idempotency_keys', { connect }, inject('postgresVersion'), sealer),
      );
    }

    beforeAll(async () => {
      database = await createDatabase();
      pools = [];
      store = storeOn();
      const session = await store.open(5_000);
      await migrate(session, 'idempotency_keys');
      session.release();
      await database.rows('CREATE TABLE effects (key text)');
    });
    afterAll(async () => {
      await Promise.all(pools.map((pool) => pool.end()));
      await database.drop();
    });
    beforeEach(() => {
      sessions = [];
      identity = identityOf(randomUUID());
    });
    afterEach(() => Promise.all(sessions.map((session) => session.rollbackAndRelease(5_000))));

    /** A session that ends with the test. */
    const open = async (of = store): Promise<Session> => {
      const session = await of.open(5_000);
      sessions.push(session);
      return session;
    };
    const on = async <T>(work: (session: Session) => Promise<T>, of = store): Promise<T> => {
      const session = await of.open(5_000);
      try {
        return await work(session);
      } finally {
        await session.rollbackAndRelease(5_000);
      }
    };
    const claim = (
      options: Partial<LeaseClaimOptions> = {},
      of = identity,
      by = store,
    ): Promise<LeaseClaim> => on((session) => by.claim(session, of, { ...POLICY, ...options }), by);
    const claimed = async (
      options: Partial<LeaseClaimOptions> = {},
      of = identity,
      by = store,
    ): Promise<Claimed> => {
      const result = await claim(options, of, by);
      if (result.kind !== 'claimed') throw new Error(`not claimed: ${JSON.stringify(result)}`);
      return result;
    };
    const change = (what: string): Promise<unknown> =>
      database.rows(`UPDATE idempotency_keys SET ${what} WHERE key_hash = $1`, [identity.keyHash]);
    const endLease = (): Promise<unknown> => change('lease_until = clock_timestamp()');
    const expire = (): Promise<unknown> => change(`expires_at = clock_timestamp() - interval '1 ms'`);
    const journal = (fence: Fence, entry: JournalEntry): Promise<boolean> =>
      on((session) => store.journalStep(session, fence, entry, LEASE_MS));
    const complete = (fence: Fence): Promise<boolean> =>
      on((session) =>
        written(store.complete(session, fence, { status: 'completed', response: CREATED }, TTL_MS)),
      );
    const release = (fence: Fence): Promise<boolean> =>
      on((session) => store.release(session, fence, new Error('released')));
    const abandon = (fence: Fence): Promise<boolean> =>
      on((session) => store.abandon(session, fence, new Error('abandoned')));
    const row = async (): Promise<Record<string, unknown> | undefined> =>
      (
        await database.rows(
          `SELECT *, lease_until > clock_timestamp() AS leased FROM idempotency_keys WHERE key_hash = $1`,
          [identity.keyHash],
        )
      )[0];
    const steps = (): Promise<object[]> =>
      database.rows('SELECT * FROM idempotency_steps WHERE key_hash = $1 ORDER BY position', [
        identity.keyHash,
      ]);
    /** The record and its journal with the versions of their rows: a write, and a mere lock, changes it. */
    const everything = async (): Promise<object[][]> => [
      await database.rows(
        `SELECT r.xmin::text, r.xmax::text, r.ctid::text, r::text AS bytes FROM idempotency_keys r WHERE key_hash = $1`,
        [identity.keyHash],
      ),
      await database.rows(
        `SELECT s.xmin::text, s.xmax::text, s.ctid::text, s::text AS bytes FROM idempotency_steps s
          WHERE key_hash = $1 ORDER BY position`,
        [identity.keyHash],
      ),
    ];
    const effects = (): Promise<object[]> =>
      database.rows('SELECT FROM effects WHERE key = $1', [identity.key]);
    const writeEffect = (session: Session): Promise<unknown> =>
      session.query({ text: 'INSERT INTO effects VALUES ($1)', values: [identity.key] });
    const isWaiting = (): Promise<boolean> =>
      database
        .rows(
          `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
        )
        .then((rows) => rows.length === 1);

    /** Every statement that writes for an attempt, and whether it wrote. */
    const WRITES: [name: string, write: (session: Session, fence: Fence) => Promise<boolean>][] = [
      ['RENEW', (session, fence) => store.renew(session, fence, LEASE_MS)],
      ['JOURNAL_STEP', (session, fence) => store.journalStep(session, fence, entryOf('late'), LEASE_MS)],
      [
        'JOURNAL_PHASE',
        async (session, fence) => {
          await session.query({ text: store.sql.BEGIN });
          await writeEffect(session);
          const entry: JournalEntry = { ...entryOf('late'), kind: 'phase' };
          const result = await store.commitPhase(session, fence, entry, LEASE_MS, () => undefined);
          expect(result.kind).not.toBe('unknown');
          return result.kind === 'committed';
        },
      ],
      ['PHASE', (session, fence) => store.openPhase(session, fence, PHASE_BOUNDS)],
      [
        'COMPLETE',
        (session, fence) =>
          written(store.complete(session, fence, { status: 'completed', response: CREATED }, TTL_MS)),
      ],
      ['RELEASE', (session, fence) => store.release(session, fence, new Error('late'))],
      ['ABANDON', (session, fence) => store.abandon(session, fence, new Error('late'))],
      ['FORGET', (session, fence) => store.forget(session, fence)],
    ];

    /** Every way of not being the record's attempt any more. */
    const STALE: [way: string, happen: (fence: Fence) => Promise<void>][] = [
      [
        'was taken over',
        async () => {
          await endLease();
          const { fence } = await claimed();
          await journal(fence, entryOf('step', { attempt: 2 }));
        },
      ],
      [
        'was taken over and that attempt abandoned the record too',
        async () => {
          await endLease();
          await abandon((await claimed()).fence);
        },
      ],
      ['gave the key back', async (fence) => void (await release(fence))],
      [
        'gave the key back, which was claimed again',
        async (fence) => {
          await release(fence);
          await claimed();
        },
      ],
      [
        'completed the record',
        async (fence) => {
          await journal(fence, entryOf('step'));
          await complete(fence);
        },
      ],
      [
        'ended in an error that is final',
        async (fence) => {
          const failed = { status: 'error', response: CREATED, error: new Error('declined') } as const;
          await on((session) => store.complete(session, fence, failed, TTL_MS));
        },
      ],
      [
        'is of a former life of the key, with the same number',
        async (fence) => {
          await database.rows('DELETE FROM idempotency_keys WHERE key_hash = $1', [identity.keyHash]);
          const next = await claimed();
          expect(next.fence).toMatchObject({ attempt: fence.attempt });
          await journal(next.fence, entryOf('step'));
        },
      ],
      ['has no record any more', async (fence) => void (await on((session) => store.forget(session, fence)))],
    ];

    describe.each(WRITES)('%s', (name, write) => {
      it('writes for the attempt that holds the record', async () => {
        const { fence } = await claimed({ request: Buffer.from('request') });
        const session = await open();
        const before = await everything();
        expect(await write(session, fence)).toBe(true);
        const after = await everything();
        // A phase has locked the row, which its version shows.
        expect(after).not.toEqual(before);
        expect(await effects()).toHaveLength(name === 'JOURNAL_PHASE' ? 1 : 0);
      });

      it.each(STALE)('changes nothing, and holds nothing, for an attempt that %s', async (_way, happen) => {
        const { fence } = await claimed({ request: Buffer.from('request') });
        await happen(fence);
        const before = await everything();
        const session = await open();
        const isWritten = await write(session, fence);
        expect(await everything()).toEqual(before);
        expect(await effects()).toEqual([]);
        expect(isWritten).toBe(false);
        await database.rows('SELECT FROM idempotency_keys WHERE key_hash = $1 FOR UPDATE NOWAIT', [
          identity.keyHash,
        ]);
      });

      it('changes nothing for an attempt that is taken over while it waits for the row', async () => {
        const { fence } = await claimed();
        await endLease();
        const [other, session] = [await open(), await open()];
        await other.query({ text: 'BEGIN' });
        expect(await store.claim(other, identity, POLICY)).toMatchObject({ kind: 'claimed' });
        const writing = write(session, fence);
        await until('the write waits for the row', isWaiting);
        await other.query({ text: 'COMMIT' });
        const isWritten = await writing;
        const after = await row();
        expect(after).toMatchObject({ status: 'pending', attempt: 2, abandoned: 1, last_error: null });
        expect(await steps()).toEqual([]);
        expect(await effects()).toEqual([]);
        expect(isWritten).toBe(false);
      });
    });

    it('does not remove a record whose number was counted up, although its attempt holds it', async () => {
      await release((await claimed()).fence);
      const { fence } = await claimed();
      const before = await everything();
      const forgotten = await on((session) => store.forget(session, fence));
      expect(await everything()).toEqual(before);
      expect(forgotten).toBe(false);
    });

    it('tells a write that was stopped by its own first try from one that another attempt stopped', async () => {
      const isWritten = (fence: Fence): Promise<boolean> => on((session) => store.isWritten(session, fence));
      const { fence } = await claimed();
      await release(fence);
      const own = await isWritten(fence);
      await claimed();
      expect([own, await isWritten(fence)]).toEqual([true, false]);
    });

    describe('the journal', () => {
      it('keeps the first entry of a step that is sent twice, and lets both through the fence', async () => {
        const { fence } = await claimed();
        const sent = [
          await journal(fence, entryOf('charge', { text: '"first"' })),
          await journal(fence, entryOf('charge', { text: '"second"' })),
        ];
        await endLease();
        const next = await claimed();
        expect(await steps()).toHaveLength(1);
        expect(next.journal).toEqual([entryOf('charge', { text: '"first"' })]);
        expect(sent).toEqual([true, true]);
      });

      it('does not commit the rows of a phase that is journaled already', async () => {
        const { fence } = await claimed();
        const entry: JournalEntry = { ...entryOf('reserve'), kind: 'phase' };
        const commitOnce = async (): Promise<string> => {
          const session = await open();
          expect(await store.openPhase(session, fence, PHASE_BOUNDS)).toBe(true);
          await writeEffect(session);
          return (await store.commitPhase(session, fence, entry, LEASE_MS, () => undefined)).kind;
        };
        const first = await commitOnce();
        const second = await commitOnce();
        expect(await effects()).toHaveLength(1);
        expect([first, second]).toEqual(['committed', 'refused']);
      });

      it('renews the lease with each entry', async () => {
        const { fence } = await claimed();
        await endLease();
        await journal(fence, entryOf('charge'));
        expect(await row()).toMatchObject({ leased: true, attempt: 1 });
      });

      it('gives every entry back as it was written, in order, to the next attempt', async () => {
        const { fence } = await claimed();
        const entries: JournalEntry[] = [
          { ...entryOf('b'), contentType: null, body: Buffer.alloc(0) },
          { ...entryOf('a', { position: 2 }), raised: true },
          { ...entryOf('ü \u{1F6D2}', { position: 3 }), contentType: 'application/octet-stream' },
        ];
        for (const entry of entries.toReversed()) await journal(fence, entry);
        await abandon(fence);
        expect((await claimed()).journal).toEqual(entries);
      });

      it('goes with its record', async () => {
        const { fence } = await claimed();
        await journal(fence, entryOf('charge'));
        await database.rows('DELETE FROM idempotency_keys WHERE key_hash = $1', [identity.keyHash]);
        expect(await steps()).toEqual([]);
      });
    });

    describe('the number of an attempt', () => {
      /** What a transaction-mode request does up to its handler. */
      const begin = async (): Promise<{ session: Session; attempt: number; born: string }> => {
        const parts = {
          store: store.records,
          settings: { acquireTimeoutMs: 5_000, maxWaiters: 1 },
          finished: new FinishedKeys(),
        };
        const acquired = await acquire(parts, identity, TRANSACTION_POLICY);
        if (acquired.kind !== 'owned') throw new Error(`not owned: ${acquired.kind}`);
        sessions.push(acquired.session);
        return acquired;
      };
      const numberNow = async (): Promise<unknown> => (await row())?.['attempt'];

      it('only grows in lease mode', async () => {
        const numbers: unknown[] = [];
        const next = async (): Promise<Fence> => {
          const { fence } = await claimed();
          numbers.push(fence.attempt, await numberNow());
          return fence;
        };
        await release(await next());
        await next();
        await endLease();
        await abandon(await next());
        await complete(await next());
        await expire();
        await release(await next());
        await expire();
        await next();
        expect(numbers).toEqual([1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]);
      });

      it('only grows in transaction mode', async () => {
        const numbers: unknown[] = [];
        let born = '';
        const next = async (): Promise<Session> => {
          const begun = await begin();
          numbers.push(begun.attempt);
          ({ born } = begun);
          return begun.session;
        };
        const outcome = async (): Promise<{ keyHash: Buffer; attempt: number; born: string }> => ({
          keyHash: identity.keyHash,
          attempt: (await numberNow()) as number,
          born,
        });
        await store.records.release(await next(), {
          ...(await outcome()),
          error: new Error('released'),
          began: true,
        });
        // Rolled back, as by the death of its process.
        await (await next()).query({ text: 'ROLLBACK' });
        await store.records.complete(await next(), {
          ...(await outcome()),
          status: 'completed',
          response: CREATED,
        });
        await expire();
        await next();
        expect(numbers).toEqual([1, 2, 3, 4]);
      });

      it('only grows when the modes take turns', async () => {
        const numbers: number[] = [];
        const leased = async (): Promise<Fence> => {
          const { fence } = await claimed({ request: Buffer.from('request') });
          numbers.push(fence.attempt);
          return fence;
        };
        const inTransaction = async (): Promise<{ session: Session; born: string }> => {
          const { session, attempt, born } = await begin();
          numbers.push(attempt);
          return { session, born };
        };
        await release(await leased());
        await (await inTransaction()).session.query({ text: 'ROLLBACK' });
        await complete(await leased());
        await expire();
        const { session, born } = await inTransaction();
        await store.records.release(session, {
          keyHash: identity.keyHash,
          attempt: 4,
          born,
          error: new Error('released'),
          began: true,
        });
        await complete(await leased());
        expect(numbers).toEqual([1, 2, 3, 4, 5]);
      });

      it('takes a record from lease mode into transaction mode without the request that was kept', async () => {
        await release((await claimed({ request: Buffer.from('request') })).fence);
        const { session } = await begin();
        await session.query({ text: 'COMMIT' });
        expect(await row()).toMatchObject({ attempt: 2, request: null });
      });

      it('is not counted for a transaction-mode request that finds a lease, running or over', async () => {
        await claimed();
        await expect(begin()).rejects.toThrow('not owned: in-flight');
        await endLease();
        await expect(begin()).rejects.toThrow('not owned: undecided');
        await expire();
        await expect(begin()).rejects.toThrow('not owned: undecided');
        expect(await row()).toMatchObject({ attempt: 1, abandoned: 0, status: 'pending' });
      });
    });

    describe('a claim', () => {
      const kinds = (results: LeaseClaim[]): Record<string, number> => {
        const counted: Record<string, number> = {};
        for (const result of results) {
          const kind = result.kind === 'claimed' ? 'claimed' : result.record.state;
          counted[kind] = (counted[kind] ?? 0) + 1;
        }
        return counted;
      };
      const storm = (): Promise<LeaseClaim[]> => Promise.all(Array.from({ length: CALLERS }, () => claim()));

      it('makes the record, leased, with its request', async () => {
        const result = await claim({ request: Buffer.from('request') });
        expect(await row()).toMatchObject({
          status: 'pending',
          attempt: 1,
          abandoned: 0,
          leased: true,
          format: 1,
          namespace: 'test',
          key: identity.key,
          operation: 'POST /test',
          request: Buffer.from('\0request'),
        });
        expect(result).toEqual({
          kind: 'claimed',
          fence: { keyHash: identity.keyHash, attempt: 1, born: expect.stringMatching(/^\d{16}$/) as string },
          resumed: false,
          journal: [],
        });
      });

      it(`is given to one of ${CALLERS} that come first together`, async () => {
        const results = await storm();
        expect(await row()).toMatchObject({ status: 'pending', attempt: 1, abandoned: 0 });
        expect(kinds(results)).toEqual({ claimed: 1, 'in-flight': CALLERS - 1 });
      });

      it(`is given to one of ${CALLERS} that find an abandoned record, and the others find it in flight`, async () => {
        await claimed();
        await endLease();
        const results = await storm();
        expect(await row()).toMatchObject({ status: 'pending', attempt: 2, abandoned: 1, leased: true });
        expect(kinds(results)).toEqual({ claimed: 1, 'in-flight': CALLERS - 1 });
      });

      it.each(['running', 'over'])('does not wait for a row that is locked, its lease %s', async (lease) => {
        const { fence } = await claimed();
        const session = await open();
        if (lease === 'over') await endLease();
        expect(await store.openPhase(session, fence, PHASE_BOUNDS)).toBe(true);
        const results = [
          await claim(),
          await claim({ retryAbandoned: false }),
          await claim({ maxAttempts: 1 }),
        ];
        expect(await row()).toMatchObject({ status: 'pending', attempt: 1, abandoned: 0 });
        expect(results).toEqual([IN_FLIGHT, IN_FLIGHT, IN_FLIGHT]);
      });

      it.each([
        ['running', async () => undefined],
        ['abandoned', endLease],
        ['completed', async (fence: Fence) => complete(fence)],
        ['released', async (fence: Fence) => release(fence)],
      ])(
        'with another payload finds the key used, the record %s, and leaves no trace on it',
        async (_state, happen) => {
          const { fence } = await claimed({ request: Buffer.from('request') });
          await happen(fence);
          const before = await everything();
          const result = await claim(
            { request: Buffer.from('another') },
            identityOf(identity.key, 'another'),
          );
          expect(await everything()).toEqual(before);
          expect(result).toEqual({ kind: 'not-claimed', record: { state: 'reused' } });
        },
      );

      it('finds the answer of a completed record, and leaves no trace on it', async () => {
        await complete((await claimed()).fence);
        const before = await everything();
        const result = await claim();
        expect(await everything()).toEqual(before);
        expect(result).toEqual({
          kind: 'not-claimed',
          record: { state: 'final', raised: false, response: CREATED, expiresAtMs: expect.any(Number) },
        });
      });

      it('begins a new life of an expired record: its time, payload and request are new, its journal is gone', async () => {
        const first = await claimed({ request: Buffer.from('first') });
        await journal(first.fence, entryOf('charge'));
        await complete(first.fence);
        await expire();
        const before = await row();
        const second = await claimed(
          { request: Buffer.from('second') },
          identityOf(identity.key, 'another payload'),
        );
        const after = await row();
        expect(after).toMatchObject({
          status: 'pending',
          attempt: 2,
          abandoned: 0,
          leased: true,
          fingerprint: sha256('another payload'),
          request: Buffer.from('\0second'),
          response_status: null,
          response_headers: null,
          response_body: null,
          completed_at: null,
        });
        expect(after?.['expires_at']).not.toEqual(before?.['expires_at']);
        expect(await steps()).toEqual([]);
        expect(second).toMatchObject({ resumed: false, journal: [] });
        expect(second.fence.born).not.toBe(first.fence.born);
      });

      it('begins a new life of a record that was released and has expired', async () => {
        const first = await claimed({ request: Buffer.from('first') });
        await release(first.fence);
        await expire();
        const second = await claimed({}, identityOf(identity.key, 'another payload'));
        expect(await row()).toMatchObject({
          attempt: 2,
          request: null,
          fingerprint: sha256('another payload'),
        });
        expect(second.fence.born).not.toBe(first.fence.born);
      });

      it('takes an expired record that nobody finished over, and does not forget what was done', async () => {
        const first = await claimed({ request: Buffer.from('first') });
        await journal(first.fence, entryOf('charge'));
        await endLease();
        await expire();
        const other = await claim({}, identityOf(identity.key, 'another payload'));
        const second = await claimed({ request: Buffer.from('second') });
        expect(await row()).toMatchObject({ attempt: 2, abandoned: 1, request: Buffer.from('\0first') });
        expect(await steps()).toHaveLength(1);
        expect(second).toMatchObject({ resumed: true, journal: [entryOf('charge')] });
        expect(second.fence.born).toBe(first.fence.born);
        expect(other).toEqual({ kind: 'not-claimed', record: { state: 'reused' } });
      });

      it('waits for a running lease, expired or not', async () => {
        await claimed();
        await expire();
        const before = await everything();
        const result = await claim();
        expect(await everything()).toEqual(before);
        expect(result).toEqual(IN_FLIGHT);
      });

      it('leaves an abandoned record alone that is not to be run again', async () => {
        const { fence } = await claimed();
        await abandon(fence);
        const result = await claim({ retryAbandoned: false });
        expect(await row()).toMatchObject({ status: 'pending', attempt: 1, abandoned: -1 });
        expect(result).toEqual({ kind: 'not-claimed', record: { state: 'unowned', abandoned: -1 } });
        // And many who ask at once do not take each other for its owner.
        const results = await Promise.all(
          Array.from({ length: CALLERS }, () => claim({ retryAbandoned: false })),
        );
        expect(kinds(results)).toEqual({ unowned: CALLERS });
      });

      it('takes a record over that transaction mode has left, also where abandoned ones are left alone', async () => {
        await database.rows(store.records.sql.CLAIM, [
          identity.keyHash,
          identity.namespace,
          identity.scope,
          identity.key,
          identity.operation,
          identity.fingerprint,
          60_000,
        ]);
        const result = await claim({ retryAbandoned: false, maxAttempts: 1 });
        expect(await row()).toMatchObject({ status: 'pending', attempt: 2, leased: true });
        expect(result.kind).toBe('claimed');
      });

      it('is given maxAttempts times to attempts that die in a row', async () => {
        const results: LeaseClaim[] = [];
        for (let round = 0; round < 5; round++) {
          results.push(await claim({ maxAttempts: 3 }));
          await endLease();
        }
        expect(await row()).toMatchObject({ status: 'pending', attempt: 3, abandoned: 2 });
        expect(results.map(({ kind }) => kind)).toEqual([
          'claimed',
          'claimed',
          'claimed',
          'not-claimed',
          'not-claimed',
        ]);
        expect(results.at(-1)).toMatchObject({ record: { state: 'unowned', abandoned: 2 } });
      });

      it('counts only those that die: an attempt that ends orderly begins the row anew', async () => {
        for (let round = 0; round < 5; round++) {
          await claimed({ maxAttempts: 2 });
          await endLease();
          await abandon((await claimed({ maxAttempts: 2 })).fence);
        }
        const { resumed } = await claimed({ maxAttempts: 1 });
        expect(await row()).toMatchObject({ attempt: 11, abandoned: 0 });
        expect(resumed).toBe(true);
      });

      it.each([
        `status = 'pending'`,
        `status = 'pending', lease_until = NULL`,
        `status = 'error', lease_until = NULL`,
        `status = 'completed', lease_until = NULL, response_status = 200`,
        `lease_until = NULL, expires_at = now()`,
      ])('does not take a record of an unknown format: %s', async (state) => {
        await claimed();
        await endLease();
        await change(`format = 3, ${state}`);
        const before = await everything();
        const results = [await claim(), await claim({}, identityOf(identity.key, 'another'))];
        expect(await everything()).toEqual(before);
        expect(results).toMatchObject([
          { kind: 'not-claimed', record: { state: 'unreadable' } },
          { kind: 'not-claimed', record: { state: 'unreadable' } },
        ]);
      });

      it('goes on with a released record as if nothing had been', async () => {
        await release((await claimed({ request: Buffer.from('request') })).fence);
        const released = await row();
        const { resumed } = await claimed();
        expect(released).toMatchObject({ status: 'error', lease_until: null, response_status: null });
        expect(await row()).toMatchObject({
          attempt: 2,
          abandoned: 0,
          request: null,
          last_error: 'Error: released',
        });
        expect(resumed).toBe(false);
      });

      it('goes on where an attempt has left the record, and does not count it as dead', async () => {
        const { fence } = await claimed();
        await journal(fence, entryOf('charge'));
        await abandon(fence);
        const second = await claimed({ maxAttempts: 1 });
        expect(await row()).toMatchObject({ attempt: 2, abandoned: 0, last_error: 'Error: abandoned' });
        expect(second).toMatchObject({ resumed: true, journal: [entryOf('charge')] });
      });

      it('lets an attempt whose lease is over, but that nobody has replaced, go on', async () => {
        const { fence } = await claimed();
        await endLease();
        const renewed = await on((session) => store.renew(session, fence, LEASE_MS));
        expect(await row()).toMatchObject({ attempt: 1, leased: true });
        expect(renewed).toBe(true);
      });

      it.each(['repeatable read', 'serializable'])(
        'is given to one where the default isolation is %s',
        async (isolation) => {
          await database.alter(`SET default_transaction_isolation = '${isolation}'`);
          onTestFinished(() => database.alter('RESET default_transaction_isolation'));
          const isolated = storeOn({ max: 4 });
          const race = async (): Promise<string[]> => {
            const claims = Array.from({ length: 4 }, () => claim({}, identity, isolated));
            return (await Promise.allSettled(claims)).map((result) => {
              if (result.status === 'fulfilled') return result.value.kind;
              if (!isTransactionConflict(result.reason)) throw result.reason;
              return 'conflict';
            });
          };
          const shown = await on(
            (session) => session.query({ text: 'SHOW default_transaction_isolation' }),
            isolated,
          );
          expect(shown.rows).toEqual([{ default_transaction_isolation: isolation }]);
          for (let round = 0; round < 10; round++) {
            identity = identityOf(randomUUID());
            const first = await race();
            await endLease();
            const takeover = await race();
            expect(await row()).toMatchObject({ status: 'pending', attempt: 2, abandoned: 1 });
            expect(first.filter((kind) => kind === 'claimed')).toHaveLength(1);
            expect(takeover.filter((kind) => kind === 'claimed')).toHaveLength(1);
          }
        },
      );
    });

    describe('a phase', () => {
      const commitPhase = (session: Session, fence: Fence): ReturnType<LeaseStore['commitPhase']> =>
        store.commitPhase(
          session,
          fence,
          { ...entryOf('reserve'), kind: 'phase' },
          LEASE_MS,
          () => undefined,
        );
      const settled = (fence: Fence, waitMs = 5_000): Promise<boolean> =>
        on((session) => store.phaseSettled(session, fence, 'reserve', waitMs));

      it('holds the record although its lease is over, and renews it with its commit', async () => {
        const { fence } = await claimed();
        const session = await open();
        await store.openPhase(session, fence, PHASE_BOUNDS);
        await writeEffect(session);
        // Nobody else can end the lease of a row that is held; the phase's own transaction can.
        await session.query({
          text: 'UPDATE idempotency_keys SET lease_until = clock_timestamp() WHERE key_hash = $1',
          values: [identity.keyHash],
        });
        const during = await claim();
        const result = await commitPhase(session, fence);
        expect(await row()).toMatchObject({ attempt: 1, leased: true });
        expect(await effects()).toHaveLength(1);
        expect(await steps()).toMatchObject([{ name: 'reserve', kind: 'phase', attempt: 1 }]);
        expect(during).toEqual(IN_FLIGHT);
        expect(result).toMatchObject({ kind: 'committed' });
        expect(await settled(fence)).toBe(true);
      });

      it('that its owner leaves idle is ended by the server; the next attempt claims the record', async () => {
        const { fence } = await claimed();
        await endLease();
        const session = await open();
        await store.openPhase(session, fence, { idleMs: 100, maxRuntimeMs: 60_000 });
        await writeEffect(session);
        const during = await claim();
        await session.lost;
        const next = await until('the record is free', async () => {
          const result = await claim();
          return result.kind === 'claimed' && result;
        });
        const result = await commitPhase(session, fence);
        expect(await effects()).toEqual([]);
        expect(await steps()).toEqual([]);
        expect(await row()).toMatchObject({ status: 'pending', attempt: 2, abandoned: 1 });
        expect(during).toEqual(IN_FLIGHT);
        expect(next).toMatchObject({ resumed: true, journal: [] });
        expect(result.kind).toBe('refused');
        expect(await settled(fence)).toBe(false);
      });

      it('bounds its own transaction on the server', async () => {
        const { fence } = await claimed();
        const session = await open();
        await store.openPhase(session, fence, { idleMs: 30_000, maxRuntimeMs: 60_000 });
        const has17 = inject('postgresVersion') >= 170000;
        const { rows } = await session.query({
          text: `SELECT current_setting('idle_in_transaction_session_timeout') AS idle,
                        current_setting('${has17 ? 'transaction_timeout' : 'statement_timeout'}') AS busy,
                        current_setting('transaction_isolation') AS isolation`,
        });
        expect(rows).toEqual([{ idle: '30s', busy: has17 ? '1min' : '61s', isolation: 'read committed' }]);
      });

      it('that is open is not settled: who asks after it waits, and gives up', async () => {
        const { fence } = await claimed();
        const session = await open();
        await store.openPhase(session, fence, PHASE_BOUNDS);
        await expect(settled(fence, 50)).rejects.toMatchObject({ code: '55P03' });
        const asking = settled(fence);
        await commitPhase(session, fence);
        expect(await asking).toBe(true);
      });
    });

    describe('sealed', () => {
      const keyed = (byte: number): Sealer => new Sealer([Buffer.alloc(32, byte)]);

      it('stores neither request nor journal readably, and opens both', async () => {
        const sealed = storeOn({ max: 2 }, keyed(1));
        const { fence } = await claimed({ request: Buffer.from('secret request') }, identity, sealed);
        const entry = entryOf('charge', { text: '"secret result"' });
        await on((session) => sealed.journalStep(session, fence, entry, LEASE_MS), sealed);
        const stored = [...(await steps()), await row()] as { body?: Buffer; request?: Buffer }[];
        await abandon(fence);
        const next = await claimed({}, identity, sealed);
        for (const { body, request } of stored) {
          expect((body ?? request)?.includes('secret')).toBe(false);
        }
        expect(next.journal).toEqual([entry]);
      });

      it('without its key is not run again, and goes on as it was when the key is back', async () => {
        const sealed = storeOn({ max: 2 }, keyed(1));
        const { fence } = await claimed({}, identity, sealed);
        const entry = entryOf('charge');
        await on((session) => sealed.journalStep(session, fence, entry, LEASE_MS), sealed);
        await endLease();
        const without = [await claim(), await claim({}, identity, storeOn({ max: 2 }, keyed(2)))];
        expect(await row()).toMatchObject({ status: 'pending', leased: false });
        expect(without).toMatchObject([
          { kind: 'not-claimed', record: { state: 'unreadable' } },
          { kind: 'not-claimed', record: { state: 'unreadable' } },
        ]);
        expect(await claimed({ maxAttempts: 1 }, identity, sealed)).toMatchObject({
          resumed: true,
          journal: [entry],
        });
      });
    });

    describe('the list of abandoned records', () => {
      const GRACE_MS = 60_000;
      let namespace: string;

      beforeEach(() => {
        namespace = randomUUID();
      });

      /** A record whose lease ended `ago`; its key is returned. */
      const leave = async (
        ago: string,
        { set = '', withRequest = true, by = store } = {},
      ): Promise<string> => {
        const key = randomUUID();
        identity = identityOf(key, 'payload', namespace);
        await claimed(withRequest ? { request: Buffer.from('request') } : {}, identity, by);
        await change(`lease_until = clock_timestamp() - interval '${ago}'${set && `, ${set}`}`);
        return key;
      };
      const list = (
        options: { graceMs?: number; limit?: number; after?: AbandonedRecord } = {},
        by = store,
      ): Promise<AbandonedRecord[]> =>
        on((session) => by.abandoned(session, namespace, { graceMs: GRACE_MS, limit: 100, ...options }), by);
      const keys = (records: AbandonedRecord[]): string[] => records.map(({ identity: { key } }) => key);

      it('tells who is meant, and with which request', async () => {
        await leave('61 s', { set: 'abandoned = 2' });
        expect(await list()).toEqual([
          {
            identity,
            abandoned: 2,
            request: Buffer.from('request'),
            since: expect.any(String) as string,
          },
        ]);
      });

      it('leaves its client the time to come back', async () => {
        await leave('58 s');
        const left = await leave('61 s');
        await leave('-1 min');
        expect(keys(await list())).toEqual([left]);
      });

      it('doubles the time with each attempt, up to an hour', async () => {
        const due = [
          await leave('70 min', { set: 'attempt = 1000' }),
          await leave('62 min', { set: 'attempt = 7' }),
          await leave('250 s', { set: 'attempt = 3' }),
          await leave('130 s', { set: 'attempt = 2' }),
        ];
        await leave('58 min', { set: 'attempt = 1000' });
        await leave('31 min', { set: 'attempt = 6' });
        await leave('230 s', { set: 'attempt = 3' });
        await leave('110 s', { set: 'attempt = 2' });
        expect(keys(await list())).toEqual(due);
      });

      it('never comes sooner than the grace where that is longer than an hour', async () => {
        const due = await leave('121 min', { set: 'attempt = 5' });
        await leave('119 min', { set: 'attempt = 5' });
        await leave('119 min');
        expect(keys(await list({ graceMs: 7_200_000 }))).toEqual([due]);
      });

      it('is of one namespace', async () => {
        const mine = await leave('61 s');
        const own = namespace;
        namespace = randomUUID();
        await leave('61 s');
        namespace = own;
        expect(keys(await list())).toEqual([mine]);
      });

      it('has only records that are unfinished, readable, and can be run without their client', async () => {
        await leave('61 s', { withRequest: false });
        await leave('61 s', { set: `status = 'completed'` });
        await leave('61 s', { set: `status = 'error'` });
        await leave('61 s', { set: 'format = 3' });
        await leave('61 s', { set: `expires_at = now() - interval '1 h'` });
        const expired = identity.key;
        await leave('61 s');
        await change('lease_until = NULL');
        expect(keys(await list())).toEqual([expired]);
      });

      it('forgets a record with its request when the outcome is final', async () => {
        identity = identityOf(randomUUID(), 'payload', namespace);
        const { fence } = await claimed({ request: Buffer.from('request') });
        await complete(fence);
        expect(await row()).toMatchObject({ status: 'completed', request: null, lease_until: null });
        expect(await list({ graceMs: 0 })).toEqual([]);
      });

      it('comes in pages, the longest abandoned first, with none twice and none left out', async () => {
        const ordered = [await leave('5 min'), await leave('4 min'), await leave('3 min')];
        // Left at the very same moment: their order is that of their hashes.
        const together = [await leave('0 s'), await leave('0 s'), await leave('0 s')];
        await database.rows(
          `UPDATE idempotency_keys SET lease_until = date_trunc('second', now()) - interval '2 min' + interval '1 us'
            WHERE namespace = $1 AND key = ANY ($2)`,
          [namespace, together],
        );
        const all = [...ordered, ...together.toSorted((a, b) => sha256(a).compare(sha256(b)))];
        const seen: string[] = [];
        let after: AbandonedRecord | undefined;
        for (let page = 0; page < 4; page++) {
          const records = await list({ limit: 2, ...(after ? { after } : {}) });
          seen.push(...keys(records));
          after = records.at(-1) ?? after;
        }
        expect(seen).toEqual(all);
      });

      it('tells of a request that cannot be opened, instead of failing', async () => {
        const sealed = storeOn({ max: 2 }, new Sealer([Buffer.alloc(32, 1)]));
        await leave('2 min', { by: sealed });
        await leave('61 s');
        expect((await list()).map(({ request }) => request?.toString())).toEqual([undefined, 'request']);
        expect((await list({}, sealed)).map(({ request }) => request?.toString())).toEqual([
          'request',
          'request',
        ]);
      });
    });
  },
);
