import type { DataSource } from 'typeorm';
import { vi } from 'vitest';
import type { ReplayCache } from '../../libs/idempotency/src/cache/replay-cache.js';
import {
  IdempotencyEngine,
  type TransactionEngineParts,
} from '../../libs/idempotency/src/engine/idempotency.engine.js';
import { InFlightRegistry } from '../../libs/idempotency/src/engine/in-flight.registry.js';
import { Looks } from '../../libs/idempotency/src/engine/looks.js';
import type { HandlerOutcome, RunHandler } from '../../libs/idempotency/src/engine/outcomes.js';
import type { AttemptPolicy } from '../../libs/idempotency/src/engine/policy.js';
import { WaiterSlots } from '../../libs/idempotency/src/engine/waiter-slots.js';
import type { IdempotencyEvent } from '../../libs/idempotency/src/events/idempotency-event.js';
import type { ClaimResult, IdempotencyStore } from '../../libs/idempotency/src/store/idempotency.store.js';
import type { AttemptIdentity } from '../../libs/idempotency/src/store/identity.js';
import type { LockedRecord } from '../../libs/idempotency/src/store/locked-record.js';
import type { StoredResponse } from '../../libs/idempotency/src/store/record.js';
import type { TransactionAttempt } from '../../libs/idempotency/src/transaction/transaction-attempt.js';
import { currentContext } from '../../libs/idempotency/src/transaction/attempt-context.js';
import { scriptedSession } from './scripted-client.js';

export const IDENTITY: AttemptIdentity = {
  namespace: 'default',
  scope: 'alice',
  key: 'order-41',
  keyHash: Buffer.alloc(32, 1),
  operation: 'POST /orders',
  fingerprint: Buffer.alloc(32, 2),
};
export const POLICY: AttemptPolicy = {
  mode: 'transaction',
  leaseMs: 30_000,
  onAbandoned: 'retry',
  ttlMs: 86_400_000,
  maxRuntimeMs: 60_000,
  maxAttempts: 3,
  onInFlight: 'reject',
  waitTimeoutMs: 1_000,
};
/** How events name its record. */
export const NAMED = { keyHash: '01'.repeat(32), operation: 'POST /orders' };
/** Its attempt, as the store knows it. */
export const LIFE = { keyHash: IDENTITY.keyHash, attempt: 1, born: '1764000000000000', xid: '731' };
export const PAID: StoredResponse = { status: 201, headers: {}, body: Buffer.from('paid') };
export const EXPIRES_AT_MS = 1_764_086_400_000;

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

type Opened = ReturnType<typeof scriptedSession>;

/** The engine of transaction mode on a store that says what a test wants; PostgreSQL's part is tested end to end. */
export function transactionEngine(script: Partial<IdempotencyStore> = {}, cache?: Partial<ReplayCache>) {
  const opened: Opened[] = [];
  const events: IdempotencyEvent[] = [];
  const store = {
    sql: { BEGIN: 'BEGIN', SAVEPOINT: 'SAVEPOINT' },
    open: vi.fn((_timeoutMs: number) => {
      const made = scriptedSession();
      opened.push(made);
      return Promise.resolve(made.session);
    }),
    claim: vi.fn(() => Promise.resolve(locked())),
    complete: vi.fn(() => Promise.resolve({ kind: 'committed', answers: [] })),
    release: vi.fn(() => Promise.resolve({ kind: 'committed', answers: [] })),
    giveBack: vi.fn(() => Promise.resolve()),
    undoHandler: vi.fn(() => Promise.resolve()),
    ...script,
  } as unknown as IdempotencyStore;
  const inFlight = new InFlightRegistry();
  const parts: TransactionEngineParts = {
    dataSource: {} as DataSource,
    makeRunner: () => {
      throw new Error('the handler of this test asks for no connection');
    },
    settings: { acquireTimeoutMs: 100, maxWaiters: 1 },
    turns: {
      inFlight,
      waiters: new WaiterSlots(1),
      looks: new Looks(),
      cache: cache as ReplayCache | undefined,
    },
    afterCommit: vi.fn(),
    emit: (event) => void events.push(event),
    store,
  };
  const engine = new IdempotencyEngine(parts);
  const run = (handler: RunHandler, policy: Partial<AttemptPolicy> = {}) =>
    engine.run({ identity: IDENTITY }, { ...POLICY, ...policy }, handler);
  return { run, parts, store, events, opened, inFlight };
}

/** A handler whose body was entered, and that came to `outcome`. */
export const handlerOf =
  (outcome: HandlerOutcome): RunHandler =>
  async (attempt) => {
    const context = currentContext();
    if (!context) throw new Error('the handler runs in no attempt');
    await attempt.enter(context, () => undefined);
    return outcome;
  };
export const completed: HandlerOutcome = { kind: 'final', status: 'completed', response: PAID };

/** Makes the attempt one whose handler has left something undone. */
export function leaveUndone(attempt: unknown, error: Error): void {
  (attempt as TransactionAttempt).settle = () => error;
}
