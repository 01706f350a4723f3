import type { DataSource } from 'typeorm';
import { vi } from 'vitest';
import type { ReplayCache } from '../../libs/idempotency/src/cache/replay-cache.js';
import type { EngineParts } from '../../libs/idempotency/src/engine/engine-parts.js';
import { InFlightRegistry } from '../../libs/idempotency/src/engine/in-flight.registry.js';
import { Looks } from '../../libs/idempotency/src/engine/looks.js';
import type { HandlerOutcome, RunHandler } from '../../libs/idempotency/src/engine/outcomes.js';
import type { AttemptPolicy } from '../../libs/idempotency/src/engine/policy.js';
import { WaiterSlots } from '../../libs/idempotency/src/engine/waiter-slots.js';
import type { IdempotencyEvent } from '../../libs/idempotency/src/events/idempotency-event.js';
import type { AttemptIdentity } from '../../libs/idempotency/src/store/identity.js';
import type { StoredResponse } from '../../libs/idempotency/src/store/record.js';
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
export const PAID: StoredResponse = { status: 201, headers: {}, body: Buffer.from('paid') };
export const EXPIRES_AT_MS = 1_764_086_400_000;

/** What either engine works with, beside a store whose sessions are opened by `open`. */
export function scriptedParts(cache?: Partial<ReplayCache>) {
  const opened: ReturnType<typeof scriptedSession>[] = [];
  const events: IdempotencyEvent[] = [];
  const inFlight = new InFlightRegistry();
  const open = vi.fn((_timeoutMs: number) => {
    const made = scriptedSession();
    opened.push(made);
    return Promise.resolve(made.session);
  });
  const parts = {
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
    emit: (event: IdempotencyEvent) => void events.push(event),
  } satisfies EngineParts;
  return { opened, events, inFlight, open, parts };
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
