import type { Subject } from './event.js';

/** The promises of the failure catalogue, in its order. */
export const PROMISES = {
  P1: 'at most one committed effect per key, exactly one behind a success',
  P2: 'a completed record if and only if its effect',
  P3: 'one answer per key, byte for byte, with the marker on replays',
  P4: 'every key answers finally when the faults are over',
  P5: 'another payload never runs, and never gets a stored answer',
  P6: "no scope sees another one's data",
  P7: 'the provider gets one downstream key, and a second call only where the route allows it',
  P8: 'bystanders keep their latency',
  P9: 'memory, pool, timers and table come back to where they were',
  P10: 'the record decides, whatever a cache holds',
} as const;

export type PromiseName = keyof typeof PROMISES;

export const PROMISE_NAMES = Object.keys(PROMISES) as readonly PromiseName[];

/** Something that was seen, and that a promise rules out. */
export interface Violation {
  readonly promise: PromiseName;
  /** `undefined`: it is not about one key. */
  readonly subject?: Subject;
  /** The calls that show it, in the order they ended; the first few of them. Empty where no call does. */
  readonly calls: readonly number[];
  /** What was seen, in plain words: statuses, payloads, attempts. */
  readonly message: string;
}

/** How much was looked at: a promise that nothing was checked for is not kept, it is untold. */
export interface Checked {
  /** Lines of the history. */
  readonly events: number;
  /** Calls of protected routes. */
  readonly requests: number;
  /** Keys that these calls used. */
  readonly subjects: number;
  readonly effects: number;
  readonly records: number;
  readonly providerCalls: number;
  /** Calls of bystanders, before and during faults. */
  readonly bystanders: number;
  readonly samples: number;
  readonly faults: number;
}

export interface PromiseVerdict {
  /** Keys, calls or samples that the promise was held against. 0: the history tells nothing about it. */
  readonly checked: number;
  /** All of them, also those that are not listed. */
  readonly violations: number;
}

export interface HistoryVerdict {
  /** The first ones of every promise: see the option `maxListed`. */
  readonly violations: readonly Violation[];
  /** All of them, also those that are not listed. */
  readonly total: number;
  readonly promises: Readonly<Record<PromiseName, PromiseVerdict>>;
  readonly checked: Checked;
  /**
   * What P8 compares, in milliseconds: before the first fault, away from any, and during faults that do not strike the bystander itself. 0: no
   * calls.
   */
  readonly bystanderP99Ms: { readonly before: number; readonly away: number; readonly during: number };
}

/** Counts all violations and lists the first ones of every promise, so that none crowds out another. */
export class Verdicts {
  readonly #violations: Violation[] = [];
  readonly #counts = new Map<PromiseName, { checked: number; violations: number }>();

  constructor(private readonly maxListed: number) {
    for (const promise of PROMISE_NAMES) this.#counts.set(promise, { checked: 0, violations: 0 });
  }

  /** That a promise was held against one more key, call or sample. */
  check(promise: PromiseName): void {
    this.#countsOf(promise).checked += 1;
  }

  add(violation: Violation): void {
    const counts = this.#countsOf(violation.promise);
    counts.violations += 1;
    if (counts.violations <= this.maxListed) this.#violations.push(violation);
  }

  close(checked: Checked, bystanderP99Ms: HistoryVerdict['bystanderP99Ms']): HistoryVerdict {
    const promises = Object.fromEntries(this.#counts) as Record<PromiseName, PromiseVerdict>;
    const total = Object.values(promises).reduce((sum, { violations }) => sum + violations, 0);
    const order = (violation: Violation): number => PROMISE_NAMES.indexOf(violation.promise);
    const violations = this.#violations.toSorted((a, b) => order(a) - order(b));
    return { violations, total, promises, checked, bystanderP99Ms };
  }

  #countsOf(promise: PromiseName): { checked: number; violations: number } {
    const counts = this.#counts.get(promise);
    if (!counts) throw new Error(`no promise ${promise}`);
    return counts;
  }
}

/** The history itself cannot be right: nothing can be said of what it tells. */
export class BrokenHistoryError extends Error {
  override readonly name = 'BrokenHistoryError';
}
