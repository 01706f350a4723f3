import { describe, expect, it, vi } from 'vitest';
import { LEASE_POLICY as policy } from '../../../../test/support/lease-engine.js';
import type { LeaseClaim, LeaseStore } from '../store/lease.store.js';
import type { Session } from '../store/session.js';
import { acquireLease, mayTakeOver } from './acquire-lease.js';
import { Deadline } from './deadline.js';

const keyHash = Buffer.from('hash');
const identity = {
  namespace: 'default',
  scope: '',
  key: 'k',
  keyHash,
  operation: 'POST /',
  fingerprint: Buffer.from('fingerprint'),
};
const claimed: LeaseClaim = {
  kind: 'claimed',
  fence: { keyHash, attempt: 2, born: '1764000000000000' },
  resumed: true,
  journal: [],
};
/** The claim found the lease running, or the row held; a moment later the lease is over. */
const over = (abandoned: number): LeaseClaim => ({
  kind: 'not-claimed',
  record: { state: 'unowned', abandoned },
});

/** A store that answers its claims from a script, the last answer for ever; PostgreSQL's part is tested end to end. */
function scripted(...answers: (LeaseClaim | Error)[]) {
  const release = vi.fn();
  const within = vi.fn(<T>(_ms: number, work: Promise<T>) => work);
  const session = { within, release } as unknown as Session;
  let round = 0;
  const claim = vi.fn((..._args: unknown[]): Promise<LeaseClaim> => {
    const answer = answers[Math.min(round++, answers.length - 1)] as LeaseClaim | Error;
    return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
  });
  const store = { open: () => Promise.resolve(session), claim } as unknown as LeaseStore;
  const settings = { acquireTimeoutMs: 100, maxWaiters: 1 };
  return { parts: { store, settings }, claim, session, within, release };
}
const found = (record: Extract<LeaseClaim, { kind: 'not-claimed' }>['record']): LeaseClaim => ({
  kind: 'not-claimed',
  record,
});
const conflict = Object.assign(new Error('could not serialize access'), { code: '40001', severity: 'ERROR' });

describe('acquireLease', () => {
  it('claims once more when the lease ran out just after the claim had looked', async () => {
    const { parts } = scripted(over(0), claimed);
    await expect(acquireLease(parts, { identity }, policy)).resolves.toMatchObject(claimed);
  });

  it('answers that it is in flight when somebody holds the row and the lease is over', async () => {
    const { parts, claim } = scripted(over(0));
    await expect(acquireLease(parts, { identity }, policy)).resolves.toEqual({ kind: 'in-flight' });
    expect(claim).toHaveBeenCalledTimes(6);
  });

  it.each([
    ['is not run twice by itself', { onAbandoned: 'fail' }, 0],
    ['has been abandoned too often', {}, 2],
  ] as const)('answers at once that a record is undecided that %s', async (_, options, abandoned) => {
    const { parts, claim } = scripted(over(abandoned));
    await expect(acquireLease(parts, { identity }, { ...policy, ...options })).resolves.toEqual({
      kind: 'undecided',
    });
    expect(claim).toHaveBeenCalledTimes(1);
  });

  it.each([
    ['retry', true],
    ['fail', false],
  ] as const)(
    'claims what its policy says, and within acquireTimeout (%s)',
    async (onAbandoned, retryAbandoned) => {
      const { parts, claim, session, within, release } = scripted(claimed);
      const before = performance.now();
      const stored = Buffer.from('request');
      const leased = await acquireLease(parts, { identity, stored }, { ...policy, onAbandoned });
      expect(leased).toEqual({ ...claimed, sentAt: expect.any(Number) });
      const { sentAt } = leased as unknown as { sentAt: number };
      expect(sentAt).toBeGreaterThanOrEqual(before);
      expect(claim).toHaveBeenCalledExactlyOnceWith(session, identity, {
        ttlMs: 86_400_000,
        leaseMs: 30_000,
        maxAttempts: 3,
        retryAbandoned,
        request: stored,
      });
      expect(within).toHaveBeenCalledExactlyOnceWith(100, expect.any(Promise));
      expect(release).toHaveBeenCalledTimes(1);
    },
  );

  it('claims without a request where there is none to keep', async () => {
    const { parts, claim } = scripted(claimed);
    await acquireLease(parts, { identity, stored: undefined }, policy);
    expect(claim.mock.calls[0]?.[2]).not.toHaveProperty('request');
  });

  it('claims again when it lost against another transaction, six times at most', async () => {
    const once = scripted(conflict, claimed);
    await expect(acquireLease(once.parts, { identity }, policy)).resolves.toMatchObject(claimed);
    const always = scripted(conflict);
    await expect(acquireLease(always.parts, { identity }, policy)).resolves.toEqual({ kind: 'in-flight' });
    expect(always.claim).toHaveBeenCalledTimes(6);
    expect(always.release).toHaveBeenCalledTimes(1);
  });

  it('fails when the database does, with the connection given back', async () => {
    const { parts, release, claim } = scripted(new Error('disk full'));
    await expect(acquireLease(parts, { identity }, policy)).rejects.toThrow('disk full');
    expect(claim).toHaveBeenCalledTimes(1);
    expect(release).toHaveBeenCalledTimes(1);
  });

  it('looks again every tenth of a second for as long as it may wait, without a connection', async () => {
    const { parts, claim, release } = scripted(
      found({ state: 'in-flight' }),
      found({ state: 'in-flight' }),
      claimed,
    );
    const began = performance.now();
    const leased = await acquireLease(parts, { identity }, policy, new Deadline(10_000));
    expect(leased).toMatchObject(claimed);
    expect(performance.now() - began).toBeGreaterThan(150);
    expect([claim.mock.calls.length, release.mock.calls.length]).toEqual([3, 3]);
  });

  it('answers that it is in flight when the wait is over', async () => {
    const { parts, claim } = scripted(found({ state: 'in-flight' }));
    const answer = acquireLease(parts, { identity }, policy, new Deadline(120));
    await expect(answer).resolves.toEqual({ kind: 'in-flight' });
    expect(claim.mock.calls.length).toBeLessThanOrEqual(5);
  });

  it('waits for nobody when there is an answer', async () => {
    const { parts, claim } = scripted(found({ state: 'reused' }));
    const answer = acquireLease(parts, { identity }, policy, new Deadline(10_000));
    await expect(answer).resolves.toEqual({ kind: 'reused' });
    expect(claim).toHaveBeenCalledTimes(1);
  });
});

describe('mayTakeOver', () => {
  it.each([
    [{ state: 'unowned', abandoned: 1 }, {}, true],
    [{ state: 'unowned', abandoned: 2 }, {}, false],
    [{ state: 'unowned', abandoned: 0 }, { onAbandoned: 'fail' }, false],
    // What is not abandoned is nobody's to take over, whatever else stands there.
    [{ state: 'in-flight', abandoned: 0 }, {}, false],
  ] as const)('says of %o with %o: %s', (record, options, may) => {
    expect(mayTakeOver(record, { ...policy, ...options })).toBe(may);
  });
});
