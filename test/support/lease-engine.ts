import { vi } from 'vitest';
import type { ReplayCache } from '../../libs/idempotency/src/cache/replay-cache.js';
import { LeaseEngine, type LeaseEngineParts } from '../../libs/idempotency/src/engine/lease.engine.js';
import type { RunHandler } from '../../libs/idempotency/src/engine/outcomes.js';
import type { AttemptPolicy } from '../../libs/idempotency/src/engine/policy.js';
import type { Fence, LeaseClaim, LeaseStore } from '../../libs/idempotency/src/store/lease.store.js';
import { EXPIRES_AT_MS, IDENTITY, POLICY, scriptedParts } from './engine-script.js';

export const LEASE_POLICY: AttemptPolicy = { ...POLICY, mode: 'lease', leaseMs: 30_000 };
export const FENCE: Fence = { keyHash: IDENTITY.keyHash, attempt: 1, born: '1764000000000000' };

export const claimed = (
  parts: Partial<Extract<LeaseClaim, { kind: 'claimed' }>> = {},
  attempt = 1,
): LeaseClaim => ({
  kind: 'claimed',
  fence: { ...FENCE, attempt },
  resumed: false,
  journal: [],
  ...parts,
});

/** The engine of lease mode on a store that says what a test wants; PostgreSQL's part is tested end to end. */
export function leaseEngine(script: Partial<LeaseStore> = {}, cache?: Partial<ReplayCache>) {
  const { open, parts: shared, ...seen } = scriptedParts(cache);
  const yes = () => vi.fn(() => Promise.resolve(true));
  const store = {
    open,
    claim: vi.fn(() => Promise.resolve(claimed())),
    complete: vi.fn(() => Promise.resolve({ expiresAtMs: EXPIRES_AT_MS })),
    release: yes(),
    abandon: yes(),
    forget: yes(),
    renew: yes(),
    journalStep: yes(),
    isWritten: vi.fn(() => Promise.resolve(false)),
    read: vi.fn(() => Promise.resolve({ state: 'in-flight' })),
    ...script,
  } as unknown as LeaseStore;
  const errors = { encode: String, decode: (value: unknown) => new Error(String(value)) };
  const parts: LeaseEngineParts = { ...shared, errors, store };
  const engine = new LeaseEngine(parts);
  const run = (handler: RunHandler, policy: Partial<AttemptPolicy> = {}, stored?: Buffer) =>
    engine.run({ identity: IDENTITY, stored }, { ...LEASE_POLICY, ...policy }, handler);
  return { engine, run, parts, store, ...seen };
}
