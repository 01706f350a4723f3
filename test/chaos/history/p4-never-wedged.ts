import type { Evidence, Sweep } from './evidence.js';
import { finding, type Judge, KEPT, type RunFacts } from './judge.js';
import type { CheckOptions } from './options.js';

/**
 * P4: no key is wedged. When the faults are over every key that was accepted is asked by sweep calls, and one of them is answered finally,
 * within `answerWithinMs` from the end of the last fault, or from the key's first sweep call when that came later.
 *
 * Keys whose every request was malformed (400, 415) were never accepted. Refusals that the library documents as the last word count as
 * answers:
 *
 * - `IDEMPOTENCY_ATTEMPTS_EXHAUSTED`: a request that kills its process is not tried for ever;
 * - `IDEMPOTENCY_RESPONSE_NOT_STORED`: a tombstone;
 * - `IDEMPOTENCY_OUTCOME_UNKNOWN` in lease mode, where a person has to decide: on a route with `onAbandoned: 'fail'`, or when an attempt
 *   with the number of `maxAttempts` or more has come to the provider. Which route that is tell the provider's calls of its operation.
 */
export const neverWedged: Judge = {
  promise: 'P4',
  judge(evidence, options, facts) {
    if (!evidence.isAccepted) return 'untold';
    const { sweep } = evidence;
    if (!sweep) return finding('it was never swept');
    if (sweep.finalAtMs !== undefined) return onTime(sweep, sweep.finalAtMs, options, facts);
    if (isLeftToPerson(evidence, sweep, options, facts)) return KEPT;
    return finding(`no sweep call was answered finally, the last one: ${sweep.last}`);
  },
};

function onTime(
  { firstAtMs }: Sweep,
  finalAtMs: number,
  { answerWithinMs }: CheckOptions,
  { faultsOverMs }: RunFacts,
): ReturnType<Judge['judge']> {
  const tookMs = finalAtMs - Math.max(firstAtMs, faultsOverMs);
  if (tookMs <= answerWithinMs) return KEPT;
  return finding(`it was answered finally after ${Math.round(tookMs)} ms; ${answerWithinMs} ms are allowed`);
}

function isLeftToPerson(
  { mode, provider, subject }: Evidence,
  { isUndecided }: Sweep,
  { maxAttempts }: CheckOptions,
  { leftToPerson }: RunFacts,
): boolean {
  if (mode !== 'lease' || !isUndecided) return false;
  return leftToPerson.has(subject.operation) || (provider?.highest ?? 0) >= maxAttempts;
}

/** Refusals that stay as they are. */
export const LAST_WORDS: ReadonlySet<string> = new Set([
  'IDEMPOTENCY_ATTEMPTS_EXHAUSTED',
  'IDEMPOTENCY_RESPONSE_NOT_STORED',
]);
