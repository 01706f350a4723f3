import type { Bounds, Model, Mutant } from './verifier.js';

const inModel =
  (model: Model) =>
  (mutant: string, property: string, bug: string, bounds: Bounds = ONE_FAULT): Mutant => ({
    model,
    mutant,
    bug,
    property,
    bounds,
  });
const transaction = inModel('transaction');
const lease = inModel('lease');

const ONE_FAULT: Bounds = { pair: true, faults: 1, expiries: 0 };
const TWO_FAULTS: Bounds = { pair: true, faults: 2, expiries: 0, retries: 1 };
const TWO_LIVES: Bounds = { pair: true, faults: 1, expiries: 1, retries: 1 };

/** Bugs that layers like this one have had, and some that this one could have. */
export const MUTANTS: readonly Mutant[] = [
  transaction('NO_LOCK', 'one_at_a_time', 'the row is read and not locked'),
  transaction('READ_THEN_WRITE', 'P1_one_effect', 'neither lock nor fence'),
  transaction(
    'CLAIM_IN_HANDLER_TRANSACTION',
    'attempts_bounded',
    'the claim commits with the handler',
    TWO_FAULTS,
  ),
  transaction('EFFECT_APART', 'P1_one_effect', 'the effect commits before its record'),
  transaction('LOST_IS_FAILURE', 'P7_honest', 'a lost answer to COMMIT is taken for a failure'),
  transaction('LOST_IS_SUCCESS', 'P3_same_answer', 'a lost answer to COMMIT is taken for a success'),
  transaction('NO_BIRTH', 'P3_same_answer', 'the outcome of a later life is adopted', TWO_LIVES),
  transaction('ADOPT_BY_NUMBER', 'P3_same_answer', 'the outcome of another attempt is adopted', TWO_FAULTS),
  transaction(
    'RELEASE_UNFENCED',
    'P1_one_effect',
    'an attempt gives back a key that is not its own any more',
  ),
  transaction(
    'REAP_UNCHECKED',
    'P1_one_effect',
    'the reaper deletes what it has seen expired a while ago',
    TWO_LIVES,
  ),
  transaction('TAKEOVER_UNCOUNTED', 'attempts_bounded', 'a takeover does not count', TWO_FAULTS),
  transaction('ANSWER_BEFORE_COMMIT', 'P3_same_answer', 'the caller is answered before the commit is'),
  transaction('LOCK_ANY_PAYLOAD', 'P5_other_payload', 'another payload takes an abandoned key over'),
  transaction('REPLAY_ANY_PAYLOAD', 'P5_other_payload', 'another payload gets the stored answer'),
  lease('NO_FENCE', 'P3_same_answer', 'an outcome is recorded without a fence'),
  lease('NO_BIRTH', 'P2_atomic', 'the fence of an earlier life fits the later one', TWO_LIVES),
  lease('ABANDON_UNMARKED', 'fenced', 'a late heartbeat leases a record that was given up'),
  lease('STALE_IS_OWN', 'P3_same_answer', 'a write that the fence stopped is taken for written'),
  lease('TAKEOVER_WHILE_LEASED', 'one_at_a_time', 'a lease is taken over while it runs'),
  lease('OWNER_CLOCK', 'one_at_a_time', 'the owner believes in its lease for longer than the database'),
  lease('TAKEOVER_UNCOUNTED', 'attempts_bounded', 'a takeover does not count', TWO_FAULTS),
  lease('REAP_PENDING', 'P1_one_effect', 'the reaper deletes what is not finished', TWO_LIVES),
  lease('RELEASE_AFTER_STEP', 'P7_honest', 'a key is given back although a step was begun'),
  lease(
    'RELEASE_AFTER_TAKEOVER',
    'P7_honest',
    'a takeover that fails early forgets what the attempt before it did',
    TWO_FAULTS,
  ),
  lease('STEP_UNJOURNALED', 'step_once', 'the handler goes on before its step is journaled'),
  lease('DOWNSTREAM_KEY_PER_ATTEMPT', 'P1_one_effect', 'each attempt calls with a downstream key of its own'),
  lease('FAIL_RUNS_AGAIN', 'P7_honest', "onAbandoned: 'fail' runs again"),
  lease('PHASE_UNFENCED', 'P1_one_effect', 'a phase neither locks nor fences'),
  lease('REPLAY_ANY_PAYLOAD', 'P5_other_payload', 'another payload gets the stored answer'),
];
