import { createHash, randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, inject } from 'vitest';
import type { AttemptIdentity } from '../libs/idempotency/src/store/identity.js';
import { BORN } from '../libs/idempotency/src/store/idempotency.sql.js';
import {
  type ClaimResult,
  IdempotencyStore,
  StaleAttemptError,
} from '../libs/idempotency/src/store/idempotency.store.js';
import { LeaseStore } from '../libs/idempotency/src/store/lease.store.js';
import type { LockedRecord } from '../libs/idempotency/src/store/locked-record.js';
import { migrate } from '../libs/idempotency/src/store/migrations/migrator.js';
import type { StoredResponse } from '../libs/idempotency/src/store/record.js';
import { Session } from '../libs/idempotency/src/store/session.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { until } from './support/until.js';

const POLICY = { ttlMs: 60_000, maxRuntimeMs: 60_000 };
const CREATED: StoredResponse = { status: 201, headers: {}, body: Buffer.from('created') };
const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();

function identityOf(key: string, payload = 'payload'): AttemptIdentity {
  return {
    namespace: 'test',
    scope: '',
    key,
    keyHash: sha256(key),
    operation: 'POST /test',
    fingerprint: sha256(payload),
  };
}

describe.each([{ pipeline: true }, { pipeline: false }])(
  'the store (pipeline: $pipeline)',
  ({ pipeline }) => {
    let database: TestDatabase;
    let pool: pg.Pool;
    let store: IdempotencyStore;
    let sessions: Session[];
    let identity: AttemptIdentity;

    beforeAll(async () => {
      database = await createDatabase();
      pool = new pg.Pool({ connectionString: database.url, max: 10, pipeline });
      pool.on('error', () => undefined);
      const connect = async (): Promise<{ client: pg.Client; release: (error?: Error) => void }> => {
        const client = await pool.connect();
        return { client: client as unknown as pg.Client, release: (error) => client.release(error) };
      };
      store = new IdempotencyStore('idempotency_keys', { connect }, inject('postgresVersion'));
      const session = await store.open(5_000);
      await migrate(session, 'idempotency_keys');
      session.release();
      await database.rows('CREATE TABLE effects (key text)');
    });
    afterAll(async () => {
      await pool.end();
      await database.drop();
    });
    beforeEach(() => {
      sessions = [];
      identity = identityOf(randomUUID());
    });
    afterEach(() => Promise.all(sessions.map((session) => session.rollbackAndRelease(5_000))));

    const open = async (): Promise<Session> => {
      const session = await store.open(5_000);
      sessions.push(session);
      return session;
    };
    const owner = async (): Promise<Session> => {
      const session = await open();
      expect(await store.claim(session, identity, POLICY)).toMatchObject({ kind: 'locked' });
      return session;
    };
    const claim = async (other = identity): Promise<unknown> => store.claim(await open(), other, POLICY);
    const row = async (): Promise<Record<string, unknown> | undefined> =>
      (
        await database.rows('SELECT status, attempt, abandoned FROM idempotency_keys WHERE key = $1', [
          identity.key,
        ])
      )[0];
    const bornAt = async (): Promise<string> => {
      const rows = await database.rows<{ born: string }>(
        `SELECT ${BORN} AS born FROM idempotency_keys WHERE key = $1`,
        [identity.key],
      );
      return rows[0]?.born ?? '';
    };
    /** Makes the row's attempt 2, as if a retry had taken it over from `session`'s attempt 1. */
    const takeOver = async (): Promise<void> =>
      void (await database.rows('UPDATE idempotency_keys SET attempt = 2 WHERE key = $1', [identity.key]));
    const writeEffect = (session: Session): Promise<unknown> =>
      session.query({ text: 'INSERT INTO effects VALUES ($1)', values: [identity.key] });
    const effects = (): Promise<unknown[]> =>
      database.rows('SELECT FROM effects WHERE key = $1', [identity.key]);

    describe('an attempt whose COMMIT was not answered', () => {
      /** Queues for the row, and is in the queue when it resolves. */
      const queue = async (place: number): Promise<{ session: Session; claimed: Promise<ClaimResult> }> => {
        const session = await open();
        const claimed = store.claim(session, identity, { ...POLICY, waitMs: 20_000 });
        await until('the claim waits', async () => {
          const waiting = await database.rows(
            `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
          );
          return waiting.length === place;
        });
        return { session, claimed };
      };
      const lockedBy = async ({ claimed }: { claimed: Promise<ClaimResult> }): Promise<LockedRecord> => {
        const result = await claimed;
        if (result.kind !== 'locked') throw new Error(`the claim is ${result.kind}`);
        return result.record;
      };

      it('is not told by another one of its number, that began unseen', async () => {
        const first = await owner();
        const [counting, ...later] = [await queue(1), await queue(2), await queue(3)];
        first.destroy(new Error('dead'));
        const { attempt } = await lockedBy(counting);
        await store.reclaim(counting.session, identity, { attempt, abandoned: 1, ttlMs: POLICY.ttlMs });
        // Which of the two locks the new version first is PostgreSQL's to say.
        const lost = await Promise.race(later.map((queued) => lockedBy(queued).then(() => queued)));
        const dead = await lockedBy(lost);
        lost.session.destroy(new Error('COMMIT was not carried out'));
        // It has waited since before attempt 2 was counted.
        const [unseeing] = later.filter((queued) => queued !== lost) as [(typeof later)[number]];
        const other = await lockedBy(unseeing);
        await writeEffect(unseeing.session);
        const outcome = {
          ...other,
          keyHash: identity.keyHash,
          status: 'completed',
          response: CREATED,
        } as const;
        await store.complete(unseeing.session, outcome);
        const settled = async (of: LockedRecord): Promise<string> =>
          store.settled(await open(), { ...of, keyHash: identity.keyHash }, 5_000);
        expect(await effects()).toHaveLength(1);
        expect([dead, other]).toMatchObject([{ attempt: 2 }, { attempt: 2 }]);
        expect(await settled(other)).toBe('committed');
        expect(await settled(dead)).toBe('gone');
      });
    });

    describe('a claim', () => {
      it('holds a new record, of which no attempt has begun', async () => {
        const session = await open();
        expect(await store.claim(session, identity, POLICY)).toEqual({
          kind: 'locked',
          record: expect.objectContaining({
            status: 'pending',
            attempt: 1,
            abandoned: 0,
            begun: false,
            expired: false,
          }),
        });
      });

      it('sees a held record as in flight, and does not wait for it', async () => {
        await owner();
        expect(await claim()).toEqual({ kind: 'not-locked', record: { state: 'in-flight' } });
      });

      it('sees another payload, also while the record is held', async () => {
        await owner();
        expect(await claim(identityOf(identity.key, 'another'))).toEqual({
          kind: 'not-locked',
          record: { state: 'reused' },
        });
      });

      it('holds an abandoned record at once, and sees that its attempt had begun', async () => {
        const session = await owner();
        session.destroy(new Error('the owner dies'));
        // The backend notices the closed socket in its own time.
        const waiting = await open();
        const result = await store.claim(waiting, identity, { ...POLICY, waitMs: 5_000 });
        expect(result).toMatchObject({
          kind: 'locked',
          record: { status: 'pending', attempt: 1, begun: true },
        });
      });

      it('does not take a record that was counted for a new attempt and not begun for an abandoned one', async () => {
        const session = await owner();
        await store.reclaim(session, identity, { attempt: 1, abandoned: 1, ttlMs: 60_000 });
        expect(await claim()).toMatchObject({
          kind: 'locked',
          record: { status: 'pending', attempt: 2, abandoned: 1, begun: false },
        });
      });

      it('leaves no trace on an abandoned record when its payload is another one', async () => {
        await database.rows(store.sql.CLAIM, [
          identity.keyHash,
          identity.namespace,
          identity.scope,
          identity.key,
          identity.operation,
          identity.fingerprint,
          60_000,
        ]);
        expect(await claim(identityOf(identity.key, 'another'))).toMatchObject({
          record: { state: 'reused' },
        });
        expect(await claim()).toMatchObject({ kind: 'locked', record: { begun: false } });
      });

      it('gives up when the row stays locked for the whole wait', async () => {
        await owner();
        const session = await open();
        expect(await store.claim(session, identity, { ...POLICY, waitMs: 50 })).toEqual({
          kind: 'wait-over',
        });
      });

      it('bounds its own transaction on the server', async () => {
        const session = await owner();
        const bound = inject('postgresVersion') >= 170000 ? 'transaction_timeout' : 'statement_timeout';
        const { rows } = await session.query({
          text: `SELECT current_setting('idle_in_transaction_session_timeout') AS idle,
                      current_setting('${bound}') AS busy, current_setting('lock_timeout') AS lock,
                      current_setting('transaction_isolation') AS isolation`,
        });
        const busy = inject('postgresVersion') >= 170000 ? '1min' : '61s';
        expect(rows).toEqual([{ idle: '1min', busy, lock: '0', isolation: 'read committed' }]);
      });

      it.each([
        ['0', '61s'],
        ['250ms', '250ms'],
        ['10min', '61s'],
      ])('bounds its statements before PostgreSQL 17: statement_timeout of %s is %s', async (own, bound) => {
        const before17 = new IdempotencyStore('idempotency_keys', store.source, 160000);
        await database.alter(`SET statement_timeout = '${own}'`);
        const fresh = new pg.Pool({ connectionString: database.url, max: 1, pipeline });
        const client = await fresh.connect();
        const session = new Session(client, () => client.release());
        const { kind } = await before17.claim(session, identity, POLICY);
        const { rows } = await session.query({ text: 'SHOW statement_timeout' });
        await session.query({ text: 'ROLLBACK' });
        const { rows: after } = await session.query({ text: 'SHOW statement_timeout' });
        session.release();
        await fresh.end();
        await database.alter('RESET statement_timeout');
        expect(kind).toBe('locked');
        expect(rows).toEqual([{ statement_timeout: bound }]);
        expect(after).toEqual([{ statement_timeout: own }]);
      });
    });

    describe('a stale attempt', () => {
      it('cannot complete the record, and its rows are not committed', async () => {
        const session = await owner();
        await writeEffect(session);
        await session.query({ text: 'COMMIT' });
        await database.rows('DELETE FROM effects');
        await takeOver();
        await session.query({ text: store.sql.BEGIN });
        await session.query({ text: store.sql.SAVEPOINT });
        await writeEffect(session);
        const result = await store.complete(session, {
          keyHash: identity.keyHash,
          attempt: 1,
          status: 'completed',
          response: CREATED,
        });
        expect(await effects()).toHaveLength(0);
        expect(await row()).toMatchObject({ status: 'pending', attempt: 2 });
        expect(result.kind).toBe('refused');
      });

      it('cannot release the record', async () => {
        const session = await owner();
        await session.query({ text: 'COMMIT' });
        await takeOver();
        await store.giveBack(session, {
          keyHash: identity.keyHash,
          attempt: 1,
          born: await bornAt(),
          error: new Error('late'),
          waitMs: 1_000,
        });
        expect(await row()).toMatchObject({ status: 'pending', attempt: 2 });
      });

      it('cannot release another life of the key, of the same number, which lease mode holds', async () => {
        const session = await owner();
        const born = await bornAt();
        await session.query({ text: 'COMMIT' });
        await database.rows('DELETE FROM idempotency_keys WHERE key = $1', [identity.key]);
        const lease = { ttlMs: 60_000, leaseMs: 60_000, retryAbandoned: true, maxAttempts: 5 };
        const anew = await new LeaseStore(store).claim(await open(), identity, lease);
        const late = { keyHash: identity.keyHash, attempt: 1, born, error: new Error('late') };
        await store.giveBack(await open(), { ...late, waitMs: 1_000 });
        await session.query({ text: store.sql.BEGIN });
        await session.query({ text: store.sql.SAVEPOINT });
        await store.release(session, { ...late, began: true });
        expect(await row()).toMatchObject({ status: 'pending', attempt: 1 });
        expect(anew.kind).toBe('claimed');
      });

      it('cannot remove the record', async () => {
        const session = await owner();
        await session.query({ text: 'COMMIT' });
        await takeOver();
        await session.query({ text: store.sql.FORGET, values: [identity.keyHash, 1] });
        expect(await row()).toMatchObject({ status: 'pending', attempt: 2 });
      });

      it('cannot count another attempt', async () => {
        const session = await owner();
        await session.query({ text: 'COMMIT' });
        await takeOver();
        await session.query({ text: store.sql.BEGIN });
        await session.query({ text: store.sql.SAVEPOINT });
        await expect(
          store.reclaim(session, identity, { attempt: 1, abandoned: 1, ttlMs: 60_000 }),
        ).rejects.toThrow(StaleAttemptError);
        expect(await row()).toMatchObject({ attempt: 2, abandoned: 0 });
      });

      it('cannot change a final outcome', async () => {
        const session = await owner();
        const completed = {
          keyHash: identity.keyHash,
          attempt: 1,
          status: 'completed',
          response: CREATED,
        } as const;
        expect(await store.complete(session, completed)).toMatchObject({ kind: 'committed' });
        await session.query({ text: store.sql.BEGIN });
        await session.query({ text: store.sql.SAVEPOINT });
        const late = { ...completed, response: { ...CREATED, body: Buffer.from('late') } };
        expect((await store.complete(session, late)).kind).toBe('refused');
        expect(await claim()).toEqual({
          kind: 'not-locked',
          record: { state: 'final', raised: false, response: CREATED, expiresAtMs: expect.any(Number) },
        });
      });
    });

    it('keeps no attempt number twice: a removed first attempt was never begun, a later one is released', async () => {
      const session = await owner();
      await store.release(session, {
        keyHash: identity.keyHash,
        attempt: 1,
        born: await bornAt(),
        error: new Error('pipe'),
        began: false,
      });
      expect(await row()).toBeUndefined();
      const second = await owner();
      await store.reclaim(second, identity, { attempt: 1, abandoned: 1, ttlMs: 60_000 });
      const third = await owner();
      await store.release(third, {
        keyHash: identity.keyHash,
        attempt: 2,
        born: await bornAt(),
        error: new Error('pipe'),
        began: false,
      });
      expect(await row()).toMatchObject({ status: 'error', attempt: 2 });
    });
  },
);
