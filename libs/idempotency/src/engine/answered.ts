import type { ReplaySource } from '../events/idempotency-event.js';
import type { ReadRecord } from '../store/idempotency.store.js';
import type { StoredResponse } from '../store/record.js';
import type { EngineOutcome } from './outcomes.js';

/** A stored answer, and where it was found. */
export interface ReplayedAnswer {
  readonly kind: 'replay';
  readonly raised: boolean;
  readonly response: StoredResponse;
  readonly source: ReplaySource;
  /** When its record expires, by the database's clock, where the database has just said so. */
  readonly expiresAtMs?: number;
}

/** A request that is answered without running its handler. */
export type Answered =
  | ReplayedAnswer
  | { readonly kind: 'in-flight' }
  | { readonly kind: 'reused' }
  | { readonly kind: 'response-not-stored' }
  | { readonly kind: 'attempts-exhausted' }
  /** Lease mode left it, and nobody knows how far it came: it is not run again by itself. */
  | { readonly kind: 'undecided' }
  | { readonly kind: 'record-unreadable'; readonly cause: Error };

/** What a record that could not be claimed means for the request; `'again'`: it changed between two looks. */
export function conclude(record: ReadRecord): Answered | 'again' {
  switch (record.state) {
    // It was deleted, or given back, between our looks.
    case 'absent':
    case 'released':
      return 'again';
    case 'unreadable':
      return { kind: 'record-unreadable', cause: record.cause };
    case 'reused':
      return { kind: 'reused' };
    case 'in-flight':
      return { kind: 'in-flight' };
    // Fail closed: whoever may go on with it has claimed it.
    case 'unowned':
      return { kind: 'undecided' };
    case 'final': {
      const { raised, response, expiresAtMs } = record;
      return replayOf({ raised, response, source: 'record', expiresAtMs });
    }
  }
}

/** A final outcome as an answer: a tombstone has none. */
export function replayOf(outcome: Omit<ReplayedAnswer, 'kind'>): Answered {
  return outcome.response.body === null ? { kind: 'response-not-stored' } : { ...outcome, kind: 'replay' };
}

/** The outcome of a request that another one's record answers. */
export function outcomeOf(answered: Answered): EngineOutcome {
  switch (answered.kind) {
    case 'replay':
      return { kind: 'replay', raised: answered.raised, response: answered.response };
    case 'record-unreadable':
      return { kind: 'rejected', reason: answered.kind, cause: answered.cause };
    case 'in-flight':
    case 'reused':
    case 'response-not-stored':
    case 'attempts-exhausted':
    case 'undecided':
      return { kind: 'rejected', reason: answered.kind };
  }
}
