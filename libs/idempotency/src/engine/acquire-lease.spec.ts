import { describe, expect, it, vi } from 'vitest';
import type { LeaseClaim, LeaseStore } from '../store/lease.store.js';
import type { Session } from '../store/session.js';
import { acquireLease } from './acquire-lease.js';
import type { AttemptPolicy } from './policy.js';

const policy: AttemptPolicy = {
  mode: 'lease',
  leaseMs: 30_000,
  onAbandoned: 'retry',
  ttlMs: 86_400_000,
  maxRuntimeMs: 60_000,
  maxAttempts: 3,
  onInFlight: 'reject',
  waitTimeoutMs: 1_000,
};
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
function scripted(...answers: LeaseClaim[]) {
  const session = {
    within: <T>(_ms: number, work: Promise<T>) => work,
    release: () => undefined,
  } as unknown as Session;
  let round = 0;
  const claim = vi.fn(() => Promise.resolve(answers[Math.min(round++, answers.length - 1)] as LeaseClaim));
  const store = { open: () => Promise.resolve(session), claim } as unknown as LeaseStore;
  return { parts: { store, settings: { acquireTimeoutMs: 100, maxWaiters: 1 } }, claim };
}

describe('acquireLease', () => {
  it('claims once more when the lease ran out just after the claim had looked', async () => {
    const { parts } = scripted(over(0), claimed);
    await expect(acquireLease(parts, { identity }, policy)).resolves.toMatchObject(claimed);
  });

  it('answers that it is in flight when somebody holds the row and the lease is over', async () => {
    const { parts, claim } = scripted(over(0));
    await expect(acquireLease(parts, { identity }, policy)).resolves.toEqual({ kind: 'in-flight' });
    expect(claim.mock.calls.length).toBeLessThanOrEqual(10);
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
});
