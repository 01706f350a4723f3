import type { DecisionAction, RecordState } from '../store/record-details.js';

/** There is no such record: it was never made, has expired and was deleted, or the reference names another one. */
export class RecordNotFoundError extends Error {
  override readonly name = 'RecordNotFoundError';
  constructor(
    /** SHA-256 of namespace, scope and key, in hexadecimal. */
    readonly keyHash: string,
  ) {
    super(`There is no record with the hash ${keyHash}: check namespace, scope and key.`);
  }
}

/** Somebody is at the record right now: its attempt, or another decision. It is neither waited for nor disturbed. */
export class RecordInFlightError extends Error {
  override readonly name = 'RecordInFlightError';
  constructor(
    readonly keyHash: string,
    action: DecisionAction,
  ) {
    super(
      `Cannot ${action} the record ${keyHash}: it is in flight, an attempt or another decision holds it. Inspect it again ` +
        'when that has ended, at the latest when maxRuntime and the lease are over.',
    );
  }
}

const CHOICES: Readonly<Record<Exclude<RecordState, 'in-flight'>, string>> = {
  abandoned: 'Its outcome is unknown: complete or release it first.',
  released: 'A retry runs it again already; complete it where that must not be.',
  completed: 'Its outcome is final: it can be erased, and nothing else.',
  error: 'Its outcome is final: it can be erased, and nothing else.',
};

/** The record is in a state in which the decision has no meaning. The message says what may be done. */
export class RecordStateError extends Error {
  override readonly name = 'RecordStateError';
  constructor(
    readonly keyHash: string,
    action: DecisionAction,
    /** The state found. */
    readonly state: Exclude<RecordState, 'in-flight'>,
    choice: string = CHOICES[state],
  ) {
    super(`Cannot ${action} the record ${keyHash}: it is ${state}. ${choice}`);
  }
}

/** The answer to the decision's COMMIT was lost: it may stand, or nothing of it. No event tells of it. */
export class DecisionUnknownError extends Error {
  override readonly name = 'DecisionUnknownError';
  constructor(
    readonly keyHash: string,
    action: DecisionAction,
    options: { cause: unknown },
  ) {
    super(
      `Whether the decision to ${action} the record ${keyHash} was stored is not known. Inspect the record: its trail ` +
        'says whether it was.',
      options,
    );
  }
}

/** The record is erased from the tables; a copy of its answer may be left in the shared cache, and may still be replayed. */
export class CopyNotErasedError extends Error {
  override readonly name = 'CopyNotErasedError';
  constructor(readonly keyHash: string) {
    super(
      `The record ${keyHash} is erased from the tables, but the shared cache did not confirm that its copy is gone: erase it ` +
        'again when the cache answers, or flush the cache.',
    );
  }
}

/** It was not said in which of several databases. */
export class AdminNotBoundError extends Error {
  override readonly name = 'AdminNotBoundError';
  constructor() {
    super(
      'The dataSource option is a function, so that the records are in several databases: call admin.of(dataSource) with ' +
        'the DataSource that is meant, and use what it returns.',
    );
  }
}
