import type { DecisionAction, RecordState } from '../store/record-details.js';

/** Who decides, and why. Both are kept in the audit trail for good, so they are no place for personal data of the client. */
export interface Decision {
  /** Who decides, for whoever reads the trail: a person, or a job and its run. Not empty. */
  readonly actor: string;
  /** Why, as a reference to a ticket or what the provider's books say. Not empty. */
  readonly reason: string;
}

/** A decision to give a key back. */
export interface ReleaseDecision extends Decision {
  /**
   * `'keep'`: the next attempt goes on from the journal, with the same downstream keys. `'discard'`: it begins anew, with
   * other downstream keys, so that providers do everything again: for effects that were undone, and no others.
   * @default 'keep'
   */
  readonly journal?: 'keep' | 'discard';
}

/** In which states of a record an action has a meaning. */
export const DECIDABLE: Readonly<Record<DecisionAction, readonly RecordState[]>> = {
  complete: ['abandoned', 'released'],
  release: ['abandoned'],
  erase: ['completed', 'error', 'released'],
};

/**
 * Fail closed: without a name and a reason nothing is decided.
 *
 * @throws {TypeError} when one of them is missing or empty.
 */
export function checkDecision(by: Decision): void {
  for (const part of ['actor', 'reason'] as const) {
    const text: unknown = by[part];
    if (typeof text !== 'string' || text.trim() === '' || text.includes('\0')) {
      throw new TypeError(`a decision needs its ${part}: a text that is not empty`);
    }
  }
}

/** @throws {TypeError} for anything but its two values. */
export function journalChoiceOf({ journal = 'keep' }: ReleaseDecision): 'keep' | 'discard' {
  if (journal !== 'keep' && journal !== 'discard') throw new TypeError("journal is 'keep' or 'discard'");
  return journal;
}
