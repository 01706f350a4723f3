import type { DataSource } from 'typeorm';
import { vi } from 'vitest';
import type { ReplayCache } from '../../libs/idempotency/src/cache/replay-cache.js';
import { InFlightRegistry } from '../../libs/idempotency/src/engine/in-flight.registry.js';
import { LeaseEngine, type LeaseEngineParts } from '../../libs/idempotency/src/engine/lease.engine.js';
import { Looks } from '../../libs/idempotency/src/engine/looks.js';
import type { RunHandler } from '../../libs/idempotency/src/engine/outcomes.js';
import type { AttemptPolicy } from '../../libs/idempotency/src/engine/policy.js';
import { WaiterSlots } from '../../libs/idempotency/src/engine/waiter-slots.js';
import type { IdempotencyEvent } from '../../libs/idempotency/src/events/idempotency-event.js';
import type { Fence, LeaseClaim, LeaseStore } from '../../libs/idempotency/src/store/lease.store.js';
import { scriptedSession } from './scripted-client.js';
import { EXPIRES_AT_MS, IDENTITY, POLICY } from './transaction-engine.js';

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
  const opened: ReturnType<typeof scriptedSession>[] = [];
  const events: IdempotencyEvent[] = [];
  const yes = () => vi.fn(() => Promise.resolve(true));
  const store = {
    open: vi.fn((_timeoutMs: number) => {
      const made = scriptedSession();
      opened.push(made);
      return Promise.resolve(made.session);
    }),
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
  const inFlight = new InFlightRegistry();
  const parts: LeaseEngineParts = {
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
    errors: { encode: String, decode: (value) => new Error(String(value)) },
    store,
  };
  const engine = new LeaseEngine(parts);
  const run = (handler: RunHandler, policy: Partial<AttemptPolicy> = {}, stored?: Buffer) =>
    engine.run({ identity: IDENTITY, stored }, { ...LEASE_POLICY, ...policy }, handler);
  return { engine, run, parts, store, events, opened, inFlight };
}
