import { vi } from 'vitest';
import type { ReplayCache } from '../../libs/idempotency/src/cache/replay-cache.js';
import {
  IdempotencyEngine,
  type TransactionEngineParts,
} from '../../libs/idempotency/src/engine/idempotency.engine.js';
import type { RunHandler } from '../../libs/idempotency/src/engine/outcomes.js';
import type { AttemptPolicy } from '../../libs/idempotency/src/engine/policy.js';
import type { ClaimResult, IdempotencyStore } from '../../libs/idempotency/src/store/idempotency.store.js';
import type { LockedRecord } from '../../libs/idempotency/src/store/locked-record.js';
import type { TransactionAttempt } from '../../libs/idempotency/src/transaction/transaction-attempt.js';
import { EXPIRES_AT_MS, IDENTITY, POLICY, scriptedParts } from './engine-script.js';

/** Its attempt, as the store knows it. */
export const LIFE = { keyHash: IDENTITY.keyHash, attempt: 1, born: '1764000000000000', xid: '731' };

export const locked = (record: Partial<LockedRecord> = {}): ClaimResult => ({
  kind: 'locked',
  record: {
    attempt: LIFE.attempt,
    born: LIFE.born,
    xid: LIFE.xid,
    abandoned: 0,
    status: 'pending',
    expired: false,
    begun: false,
    expiresAtMs: EXPIRES_AT_MS,
    ...record,
  },
});

/** The engine of transaction mode on a store that says what a test wants; PostgreSQL's part is tested end to end. */
export function transactionEngine(script: Partial<IdempotencyStore> = {}, cache?: Partial<ReplayCache>) {
  const { open, parts: shared, ...seen } = scriptedParts(cache);
  const store = {
    sql: { BEGIN: 'BEGIN', SAVEPOINT: 'SAVEPOINT' },
    open,
    claim: vi.fn(() => Promise.resolve(locked())),
    complete: vi.fn(() => Promise.resolve({ kind: 'committed', answers: [] })),
    release: vi.fn(() => Promise.resolve({ kind: 'committed', answers: [] })),
    giveBack: vi.fn(() => Promise.resolve()),
    undoHandler: vi.fn(() => Promise.resolve()),
    ...script,
  } as unknown as IdempotencyStore;
  const parts: TransactionEngineParts = { ...shared, store };
  const engine = new IdempotencyEngine(parts);
  const run = (handler: RunHandler, policy: Partial<AttemptPolicy> = {}) =>
    engine.run({ identity: IDENTITY }, { ...POLICY, ...policy }, handler);
  return { run, parts, store, ...seen };
}

/** Makes the attempt one whose handler has left something undone. */
export function leaveUndone(attempt: unknown, error: Error): void {
  (attempt as TransactionAttempt).settle = () => error;
}
