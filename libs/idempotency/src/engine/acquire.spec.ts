import { describe, expect, it, vi } from 'vitest';
import { POLICY as policy } from '../../../../test/support/engine-script.js';
import {
  type ClaimResult,
  type IdempotencyStore,
  type ReadRecord,
  StaleAttemptError,
} from '../store/idempotency.store.js';
import type { LockedRecord } from '../store/locked-record.js';
import type { Session } from '../store/session.js';
import { acquire } from './acquire.js';
import { Deadline } from './deadline.js';
import { FinishedKeys } from './finished-keys.js';

const identity = {
  namespace: 'default',
  scope: '',
  key: 'k',
  keyHash: Buffer.from('hash'),
  operation: 'POST /',
  fingerprint: Buffer.from('fingerprint'),
};
const fresh: LockedRecord = {
  attempt: 1,
  born: '1764000000000000',
  xid: '731',
  abandoned: 0,
  status: 'pending',
  expired: false,
  begun: false,
  expiresAtMs: 0,
};
const locked = (record: Partial<LockedRecord> = {}): ClaimResult => ({
  kind: 'locked',
  record: { ...fresh, ...record },
});
const read = (record: Extract<ClaimResult, { kind: 'not-locked' }>['record']): ClaimResult => ({
  kind: 'not-locked',
  record,
});
const conflict = Object.assign(new Error('deadlock detected'), { code: '40P01', severity: 'ERROR' });

/** A store that answers its claims from a script, the last answer for ever; PostgreSQL's part is tested end to end. */
function scripted(...answers: (ClaimResult | Error)[]) {
  const rolledBack = vi.fn(() => Promise.resolve());
  const released = vi.fn();
  const session = {
    within: vi.fn(<T>(_ms: number, work: Promise<T>) => work),
    query: vi.fn(() => Promise.resolve()),
    rollbackAndRelease: rolledBack,
    release: released,
  } as unknown as Session;
  let round = 0;
  const claim = vi.fn((..._args: unknown[]): Promise<ClaimResult> => {
    const answer = answers[Math.min(round++, answers.length - 1)] as ClaimResult | Error;
    return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
  });
  const reclaim = vi.fn((..._args: unknown[]) => Promise.resolve());
  const look = vi.fn((..._args: unknown[]) => Promise.resolve<ReadRecord>({ state: 'absent' }));
  const store = { open: () => Promise.resolve(session), claim, reclaim, look } as unknown as IdempotencyStore;
  const finished = new FinishedKeys();
  return {
    parts: { store, settings: { acquireTimeoutMs: 100, maxWaiters: 1 }, finished },
    look,
    released,
    session,
    claim,
    reclaim,
    rolledBack,
  };
}

const CONFLICT = { status: 409, headers: {}, body: Buffer.alloc(0) };

describe('acquire', () => {
  it('owns a record that it locked and that nobody has begun', async () => {
    const { parts, session, claim, reclaim, rolledBack, released } = scripted(locked());
    await expect(acquire(parts, identity, policy)).resolves.toEqual({
      kind: 'owned',
      session,
      expiresAtMs: 0,
      attempt: 1,
      born: fresh.born,
      xid: fresh.xid,
      takenOver: false,
    });
    expect(reclaim).not.toHaveBeenCalled();
    expect(rolledBack).not.toHaveBeenCalled();
    expect(released).not.toHaveBeenCalled();
    expect(claim.mock.calls[0]?.[2]).toStrictEqual({
      ttlMs: policy.ttlMs,
      maxRuntimeMs: policy.maxRuntimeMs,
    });
  });

  it('counts an abandoned record durably before it owns it', async () => {
    const { parts, session, reclaim } = scripted(
      locked({ begun: true }),
      locked({ attempt: 2, abandoned: 1 }),
    );
    await expect(acquire(parts, identity, policy)).resolves.toEqual({
      kind: 'owned',
      session,
      expiresAtMs: 0,
      attempt: 2,
      born: fresh.born,
      xid: fresh.xid,
      takenOver: true,
    });
    expect(reclaim).toHaveBeenCalledTimes(1);
    expect(reclaim).toHaveBeenCalledWith(session, identity, {
      attempt: 1,
      abandoned: 1,
      ttlMs: policy.ttlMs,
    });
  });

  it.each([
    ['released', { status: 'error', begun: true }],
    ['released long ago', { status: 'error', begun: false }],
    ['expired', { status: 'completed', expired: true }],
    ['expired and abandoned', { status: 'pending', expired: true, begun: true, abandoned: 2 }],
    ['expired and never begun', { status: 'pending', expired: true }],
  ] as const)('counts a record that is %s, but not as abandoned', async (_name, record) => {
    const { parts, reclaim } = scripted(locked(record), locked({ attempt: 2 }));
    await expect(acquire(parts, identity, policy)).resolves.toMatchObject({
      kind: 'owned',
      attempt: 2,
      takenOver: false,
    });
    expect(reclaim).toHaveBeenCalledWith(
      expect.anything(),
      identity,
      expect.objectContaining({ abandoned: 0 }),
    );
  });

  it('refuses the record whose attempts have all died, and does not run it again', async () => {
    const { parts, reclaim, rolledBack } = scripted(locked({ begun: true, abandoned: 2, attempt: 3 }));
    await expect(acquire(parts, identity, policy)).resolves.toEqual({ kind: 'attempts-exhausted' });
    expect(reclaim).not.toHaveBeenCalled();
    expect(rolledBack).toHaveBeenCalledTimes(1);
  });

  it('lets the row of such a record go before it answers, so that nobody takes the look for an attempt', async () => {
    const { parts, rolledBack } = scripted(locked({ begun: true, abandoned: 2, attempt: 3 }));
    let letGo!: () => void;
    rolledBack.mockReturnValueOnce(new Promise<void>((resolve) => (letGo = resolve)));
    const answered = vi.fn();
    const acquiring = acquire(parts, identity, policy).then(answered);
    await vi.waitFor(() => expect(rolledBack).toHaveBeenCalled());
    await new Promise((resolve) => setImmediate(resolve));
    expect(answered).not.toHaveBeenCalled();
    letGo();
    await acquiring;
    expect(answered).toHaveBeenCalledWith({ kind: 'attempts-exhausted' });
  });

  it('runs the last attempt that maxAttempts grants', async () => {
    const { parts } = scripted(
      locked({ begun: true, abandoned: 1, attempt: 2 }),
      locked({ attempt: 3, abandoned: 2 }),
    );
    await expect(acquire(parts, identity, policy)).resolves.toMatchObject({ kind: 'owned', attempt: 3 });
  });

  it('goes round when somebody else counted the attempt, and never owns what it does not hold', async () => {
    const { parts, reclaim } = scripted(locked({ begun: true }), read({ state: 'in-flight' }));
    reclaim.mockRejectedValueOnce(new StaleAttemptError(1));
    await expect(acquire(parts, identity, policy)).resolves.toEqual({ kind: 'in-flight' });
  });

  it.each(['absent', 'released'] as const)(
    'goes round a bounded number of times while the record is %s',
    async (state) => {
      const { parts, session, claim, rolledBack } = scripted(read({ state }));
      await expect(acquire(parts, identity, policy)).resolves.toEqual({ kind: 'in-flight' });
      expect(claim).toHaveBeenCalledTimes(6);
      // Each look ends its transaction before the next one.
      expect(session.query).toHaveBeenCalledTimes(6);
      expect(session.query).toHaveBeenCalledWith({ text: 'ROLLBACK' });
      expect(rolledBack).toHaveBeenCalledTimes(1);
    },
  );

  it('gives up in the same way on a record that is never to be begun', async () => {
    const { parts, reclaim } = scripted(locked({ status: 'error' }));
    await expect(acquire(parts, identity, policy)).resolves.toEqual({ kind: 'in-flight' });
    expect(reclaim).toHaveBeenCalledTimes(6);
  });

  it.each([
    [{ state: 'in-flight' }, { kind: 'in-flight' }],
    [{ state: 'reused' }, { kind: 'reused' }],
    [
      { state: 'unreadable', cause: new Error('format 3') },
      { kind: 'record-unreadable', cause: new Error('format 3') },
    ],
    // Left by lease mode, whose handler may have done something that this mode cannot roll back.
    [{ state: 'unowned', abandoned: 0 }, { kind: 'undecided' }],
    [
      { state: 'final', raised: true, response: CONFLICT, expiresAtMs: 7 },
      { kind: 'replay', raised: true, response: CONFLICT, source: 'record', expiresAtMs: 7 },
    ],
    [
      { state: 'final', raised: false, response: { status: 200, headers: {}, body: null }, expiresAtMs: 7 },
      { kind: 'response-not-stored' },
    ],
  ] as const)('concludes from %o', async (record, answer) => {
    const { parts, claim, rolledBack } = scripted(read(record));
    await expect(acquire(parts, identity, policy)).resolves.toEqual(answer);
    expect(claim).toHaveBeenCalledTimes(1);
    expect(rolledBack).toHaveBeenCalledTimes(1);
    // Only of a final record is it remembered that there is nothing to claim.
    expect(parts.finished.has(identity.keyHash)).toBe(record.state === 'final');
  });

  it('does not wait for its connection to go back, where nobody can take its look for an attempt', async () => {
    const { parts, rolledBack } = scripted(read({ state: 'in-flight' }));
    rolledBack.mockReturnValueOnce(new Promise<void>(() => undefined));
    await expect(acquire(parts, identity, policy)).resolves.toEqual({ kind: 'in-flight' });
  });

  it('answers that it is in flight when the wait is over, or lost against another transaction', async () => {
    const over = scripted({ kind: 'wait-over' });
    await expect(acquire(over.parts, identity, policy, new Deadline(500))).resolves.toEqual({
      kind: 'in-flight',
    });
    expect(over.rolledBack).toHaveBeenCalledTimes(1);
    expect(over.claim).toHaveBeenCalledTimes(1);
    const lost = scripted(conflict);
    await expect(acquire(lost.parts, identity, policy)).resolves.toEqual({ kind: 'in-flight' });
    expect(lost.rolledBack).toHaveBeenCalledTimes(1);
  });

  it('spends one wait over all its rounds', async () => {
    const { parts, claim, session } = scripted(
      read({ state: 'released' }),
      read({ state: 'absent' }),
      locked(),
    );
    const left = [500, 200, 0];
    const wait = Object.defineProperty(new Deadline(500), 'remainingMs', { get: () => left.shift() });
    await expect(acquire(parts, identity, policy, wait)).resolves.toMatchObject({ kind: 'owned' });
    expect(claim.mock.calls.map(([, , options]) => (options as { waitMs: number }).waitMs)).toEqual([
      500, 200, 0,
    ]);
    // The wait besides the time that every statement has; a rollback behind each of the first two.
    expect(vi.mocked(session.within).mock.calls.map(([ms]) => ms)).toEqual([600, 100, 300, 100, 100]);
  });

  it('fails when the database does, with the connection given up', async () => {
    const claiming = scripted(new Error('connection lost'));
    await expect(acquire(claiming.parts, identity, policy)).rejects.toThrow('connection lost');
    expect(claiming.rolledBack).toHaveBeenCalledTimes(1);

    const counting = scripted(locked({ begun: true }));
    counting.reclaim.mockRejectedValue(new Error('disk full'));
    await expect(acquire(counting.parts, identity, policy)).rejects.toThrow('disk full');
    expect(counting.rolledBack).toHaveBeenCalledTimes(1);
  });

  describe('of a key whose record it has seen to be final', () => {
    const FINAL: ReadRecord = { state: 'final', raised: true, response: CONFLICT, expiresAtMs: 7 };
    const REPLAY = { kind: 'replay', raised: true, response: CONFLICT, source: 'record', expiresAtMs: 7 };

    it('only looks', async () => {
      const { parts, claim, look, rolledBack, released } = scripted(read(FINAL));
      look.mockResolvedValue(FINAL);
      await acquire(parts, identity, policy);
      expect([claim.mock.calls.length, look.mock.calls.length]).toEqual([1, 0]);
      expect([rolledBack.mock.calls.length, released.mock.calls.length]).toEqual([1, 0]);

      await expect(acquire(parts, identity, policy)).resolves.toEqual(REPLAY);
      expect([claim.mock.calls.length, look.mock.calls.length]).toEqual([1, 1]);
      // No transaction was opened that would have to be ended.
      expect([rolledBack.mock.calls.length, released.mock.calls.length]).toEqual([1, 1]);
    });

    it.each([
      { state: 'absent' },
      { state: 'in-flight' },
      { state: 'released' },
      { state: 'reused' },
      { state: 'unowned', abandoned: 0 },
      { state: 'unreadable', cause: new Error('format 3') },
    ] as const)('claims when it is no more ($state), and looks no more', async (found) => {
      const { parts, claim, look } = scripted(locked());
      parts.finished.add(identity.keyHash);
      look.mockResolvedValue(found);
      await expect(acquire(parts, identity, policy)).resolves.toMatchObject({ kind: 'owned' });
      expect([claim.mock.calls.length, look.mock.calls.length]).toEqual([1, 1]);
      expect(parts.finished.has(identity.keyHash)).toBe(false);
    });

    it('fails when the database does, with the connection given up', async () => {
      const { parts, claim, look, released } = scripted(locked());
      parts.finished.add(identity.keyHash);
      look.mockRejectedValue(new Error('connection lost'));
      await expect(acquire(parts, identity, policy)).rejects.toThrow('connection lost');
      expect([claim.mock.calls.length, released.mock.calls.length]).toEqual([0, 1]);
    });
  });
});
