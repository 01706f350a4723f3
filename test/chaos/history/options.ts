import type { Fault } from './event.js';

/** What a history is held against. All of it has a default. */
export interface CheckOptions {
  /**
   * P4: how long a key may take to answer finally, in milliseconds, counted from the end of the last fault, or from the key's first sweep
   * call when that comes later. Default 32,000: the library's `leaseTtl` of 30 s, and 2 s.
   */
  readonly answerWithinMs: number;

  /** P4: the library's `maxAttempts`; so many attempts may die before an undecided outcome is right on every route. Default 5. */
  readonly maxAttempts: number;

  /** P3, P10: the library's `replayStatus`. Default `'ok'`: a stored 201 is replayed as 200. */
  readonly replayStatus: 'ok' | 'original';

  /** P1, P2: whether handlers in lease mode write their one effect in a phase. `false`: they write none. Default `true`. */
  readonly leaseHandlersWrite: boolean;

  /**
   * P7: names of faults that hold a process or what it has sent up, so that a call of an attempt may come to the provider after one of
   * its successor. Default: none, a call that comes late is a violation.
   */
  readonly holdUpFaults: readonly string[];

  /** P7: how long after such a fault a call may still be late, in milliseconds. Default 5,000. */
  readonly holdUpSettleMs: number;

  /**
   * P10: for how long after its outcome was answered a key may still be answered 409 `IDEMPOTENCY_KEY_IN_USE`, in milliseconds: the library's
   * `replayCache.inFlightTtl`, for which a hint stands that could not be taken back. Default 0.
   */
  readonly inUseMs: number;

  /**
   * P10: names of faults during which that may be later still: by a process that has not learned yet what became of its COMMIT, or that
   * its attempt is lost. Default: none.
   */
  readonly inUseFaults: readonly string[];

  /** P10: how long after such a fault a key may still be in use, in milliseconds. Default 5,000. */
  readonly inUseSettleMs: number;

  /** P8: by how much the p99 of bystanders may grow during faults. Default 2. */
  readonly bystanderFactor: number;

  /**
   * P8: whether the p99 during faults is held against that of all calls that are away from any fault, between faults as before the first, and not
   * only against those before. Default `false`. Over an hour a machine is faster and slower by more than `bystanderFactor` without any
   * fault: the calls in between had the same machine, and processes of the same age.
   */
  readonly bystanderBetween: boolean;

  /**
   * P8, with `bystanderBetween`: by how much the p99 away from faults may be over that before the first one. More than any machine's moods:
   * what does not end with its fault, as connections that are never given back. Default 10.
   */
  readonly bystanderDriftFactor: number;

  /** P8: a p99 under this is fine whatever it was before, in milliseconds: a factor of a very short time says nothing. Default 50. */
  readonly bystanderFloorMs: number;

  /**
   * P8: how long after a fault a call still counts as one during it, in milliseconds. Default 0. Where faults are shorter than calls, a call that
   * is slow for whatever reason is more likely to meet one: only with some time behind them is it the fault that is measured.
   */
  readonly bystanderSettleMs: number;

  /** P8: share of bystander calls during faults that must be answered, 0 to 1. Default 0.999. */
  readonly bystanderSuccess: number;

  /**
   * P8: names of faults that hit the bystander itself, as the restart of its database or a kill of its instance. Calls that overlap
   * one are left out. Default: none.
   */
  readonly exemptFaults: readonly string[];

  /**
   * P8: how long after such a fault calls are left out as well, in milliseconds, and how far from one is away from it. Default 2,000: a process
   * that starts in place of one that was killed needs a processor for a second.
   */
  readonly exemptSettleMs: number;

  /**
   * P9: how fast resident memory may grow from the first fault on, in bytes per 1,000 requests: the slope of the least squares over
   * all samples but those of the baseline. Default 1,000,000. `Infinity`: not checked.
   */
  readonly residentBytesPer1000Requests: number;

  /** P9: connections and timers that may be there at the end beyond the most of the baseline. Default 0. */
  readonly poolSlack: number;
  readonly timerSlack: number;

  /** P9: expired records that may wait for the reaper at the end. Default 0. */
  readonly expiredAtEnd: number;

  /** Violations of one promise that are listed; all are counted. Default 20. */
  readonly maxListed: number;
}

export const DEFAULT_CHECK_OPTIONS: CheckOptions = {
  answerWithinMs: 32_000,
  maxAttempts: 5,
  replayStatus: 'ok',
  leaseHandlersWrite: true,
  holdUpFaults: [],
  holdUpSettleMs: 5_000,
  inUseMs: 0,
  inUseFaults: [],
  inUseSettleMs: 5_000,
  bystanderFactor: 2,
  bystanderBetween: false,
  bystanderDriftFactor: 10,
  bystanderFloorMs: 50,
  bystanderSettleMs: 0,
  bystanderSuccess: 0.999,
  exemptFaults: [],
  exemptSettleMs: 2_000,
  residentBytesPer1000Requests: 1_000_000,
  poolSlack: 0,
  timerSlack: 0,
  expiredAtEnd: 0,
  maxListed: 20,
};

/** Whether a fault has one of the names. */
export const isNamed = (names: readonly string[], { name }: Fault): boolean => names.includes(name);
