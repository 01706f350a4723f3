import type { KeptOutcome, ReplayCache } from '../cache/replay-cache.js';
import type { AttemptIdentity } from '../store/identity.js';
import { type Answered, type ReplayedAnswer, replayOf } from './answered.js';
import { Deadline } from './deadline.js';
import type { InFlightRegistry, SharedOutcome } from './in-flight.registry.js';
import type { Looks } from './looks.js';
import type { AttemptPolicy } from './policy.js';
import type { WaiterSlots } from './waiter-slots.js';

/** What duplicates share: those of this process, and through the cache those of all instances. */
export interface Turns {
  readonly inFlight: InFlightRegistry;
  readonly waiters: WaiterSlots;
  readonly cache?: ReplayCache | undefined;
  readonly looks: Looks;
}

/**
 * Asks for the record with `look`, unless it can be answered without: this process is executing it, or the cache has its outcome
 * or a hint that it is in flight. With `onInFlight: 'wait'` waits for the attempt in flight: in this process for its outcome,
 * and elsewhere as `look` does when it is given a deadline.
 *
 * Fail closed: nothing but `look` says that something may run.
 *
 * @throws what `look` throws.
 */
export async function takeTurn<Owned extends { readonly kind: string }>(
  { inFlight, waiters, cache, looks }: Turns,
  identity: AttemptIdentity,
  policy: AttemptPolicy,
  look: (wait?: Deadline) => Promise<Owned | Answered>,
): Promise<Owned | Answered> {
  const { keyHash, fingerprint } = identity;
  const deadline = new Deadline(policy.waitTimeoutMs);
  const waiting = policy.onInFlight === 'wait';
  const lookAndKeep = async (wait?: Deadline): Promise<Owned | Answered> => {
    const tellCache = cache?.beginLook(identity);
    const found = await look(wait);
    tellCache?.(isInFlight(found) ? 'in-flight' : outcomeFoundIn(found));
    return found;
  };
  for (;;) {
    const local = inFlight.find(keyHash);
    if (local) {
      // 422 beats 409: another payload is wrong however the first one ends.
      if (!local.fingerprint.equals(fingerprint)) return { kind: 'reused' };
      if (!waiting) return { kind: 'in-flight' };
      const outcome = await deadline.race(local.outcome);
      if (outcome === 'over') return { kind: 'in-flight' };
      if (outcome.kind === 'final') return replayOf({ ...outcome, source: 'process' });
      continue;
    }
    const known = await cache?.find(identity);
    if (known?.kind === 'final') return replayOf(known);
    if (cache && !known) {
      const asked = looks.underWay(identity);
      if (asked) {
        await asked;
        continue;
      }
    }
    const acquired: Owned | Answered =
      known ?? (cache ? await looks.run(identity, () => lookAndKeep()) : await look());
    if (!isInFlight(acquired) || !waiting || deadline.isOver) return acquired;
    if (inFlight.find(keyHash)) continue;
    const waited = await waiters.use(keyHash, deadline, () => lookAndKeep(deadline));
    if (waited === 'over') return acquired;
    // Nobody has asked the database for as long as that, and a hint may have been wrong all the while.
    if (waited === 'no-slot') return known ? lookAndKeep() : acquired;
    if (waited !== 'shared') return waited;
    if (deadline.isOver) return acquired;
  }
}

/**
 * An attempt of this process begins, as its duplicates here and elsewhere are told. The returned function says what it came to;
 * only the first call counts. `isHeld` says whether it still has its record, as far as this process knows.
 */
export function beginTurn(
  { inFlight, cache }: Turns,
  identity: AttemptIdentity,
  isHeld: () => boolean,
): (outcome: SharedOutcome) => void {
  const tellProcess = inFlight.add(identity.keyHash, identity.fingerprint);
  const tellInstances = cache?.begin(identity, isHeld);
  let isOver = false;
  return (outcome) => {
    if (isOver) return;
    isOver = true;
    // The instances first: who is woken here must find the hint taken back.
    tellInstances?.(outcome.kind === 'final' ? keptOf(outcome) : undefined);
    tellProcess(outcome);
  };
}

function isInFlight(acquired: { readonly kind: string }): boolean {
  return acquired.kind === 'in-flight';
}

function outcomeFoundIn(found: { readonly kind: string }): KeptOutcome | undefined {
  return found.kind === 'replay' ? keptOf(found as ReplayedAnswer) : undefined;
}

/** An outcome whose record's end the database has told; without that no copy of it may be kept. */
function keptOf({
  expiresAtMs,
  raised,
  response,
}: Omit<KeptOutcome, 'expiresAtMs'> & { readonly expiresAtMs?: number }): KeptOutcome | undefined {
  return expiresAtMs === undefined ? undefined : { expiresAtMs, raised, response };
}
