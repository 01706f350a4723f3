import type { AttemptIdentity } from '../store/identity.js';
import type { Answered } from './answered.js';
import { Deadline } from './deadline.js';
import type { InFlightRegistry, SharedOutcome } from './in-flight.registry.js';
import type { AttemptPolicy } from './policy.js';
import type { WaiterSlots } from './waiter-slots.js';

/** What duplicates of this process share. */
export interface Turns {
  readonly inFlight: InFlightRegistry;
  readonly waiters: WaiterSlots;
}

/**
 * Asks for the record with `look`, unless this process is executing it; with `onInFlight: 'wait'` waits for the attempt in
 * flight: in this process for its outcome, and elsewhere as `look` does when it is given a deadline.
 *
 * @throws what `look` throws.
 */
export async function takeTurn<Owned>(
  { inFlight, waiters }: Turns,
  { keyHash, fingerprint }: AttemptIdentity,
  policy: AttemptPolicy,
  look: (wait?: Deadline) => Promise<Owned | Answered>,
): Promise<Owned | Answered> {
  const deadline = new Deadline(policy.waitTimeoutMs);
  const waiting = policy.onInFlight === 'wait';
  for (;;) {
    const local = inFlight.find(keyHash);
    if (local) {
      // 422 beats 409: another payload is wrong however the first one ends.
      if (!local.fingerprint.equals(fingerprint)) return { kind: 'reused' };
      if (!waiting) return { kind: 'in-flight' };
      const outcome = await deadline.race(local.outcome);
      if (outcome === 'over') return { kind: 'in-flight' };
      if (outcome.kind === 'final') return replayOf(outcome);
      continue;
    }
    const acquired = await look();
    if (!isInFlight(acquired) || !waiting || deadline.isOver) return acquired;
    if (inFlight.find(keyHash)) continue;
    const waited = await waiters.use(keyHash, deadline, () => look(deadline));
    if (waited === 'over') return acquired;
    if (waited !== 'shared') return waited;
    if (deadline.isOver) return acquired;
  }
}

function isInFlight(acquired: unknown): boolean {
  return (acquired as Answered).kind === 'in-flight';
}

function replayOf({ raised, response }: Extract<SharedOutcome, { kind: 'final' }>): Answered {
  return response.body === null ? { kind: 'response-not-stored' } : { kind: 'replay', raised, response };
}
