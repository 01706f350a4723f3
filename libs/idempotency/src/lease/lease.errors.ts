/**
 * The record belongs to another attempt, or its outcome is decided: nothing that this attempt still does is recorded. Let it
 * through; the caller is answered from the record.
 */
export class LeaseLostError extends Error {
  override readonly name = 'LeaseLostError';
  constructor(operation: string, attempt: number) {
    super(
      `Attempt ${attempt} of ${operation} has lost its lease: the record belongs to another attempt, or its outcome is ` +
        'decided. The process was frozen or cut off from the database for longer than leaseTtl, or a person resolved it.',
    );
  }
}

/** A handler's steps and phases are not the ones that its journal tells of. */
export class StepOrderError extends Error {
  override readonly name = 'StepOrderError';
  constructor(operation: string, fault: string) {
    super(
      `${operation}: ${fault}. Steps and phases have names that are unique within the handler, and every attempt comes to ` +
        'them in the same order; deploy the code that began the record, or resolve it through IdempotencyAdmin.',
    );
  }
}

/** A step is done, and that could not be written down: the next attempt will run it again. */
export class StepNotJournaledError extends Error {
  override readonly name = 'StepNotJournaledError';
  constructor(operation: string, name: string, options: { cause: unknown }) {
    super(
      `The step ${JSON.stringify(name)} of ${operation} is done, but its result could not be journaled; the next attempt ` +
        'runs it again, with the same downstreamKey.',
      options,
    );
  }
}

/** The answer to a phase's COMMIT was lost, and the database could not be asked what became of it. */
export class PhaseOutcomeUnknownError extends Error {
  override readonly name = 'PhaseOutcomeUnknownError';
  constructor(operation: string, name: string, options: { cause: unknown }) {
    super(
      `Whether the phase ${JSON.stringify(name)} of ${operation} was committed is not known; the next attempt finds out.`,
      options,
    );
  }
}

/** What a journaled final error comes back as, unless it was an `HttpException`. */
export class JournaledError extends Error {
  constructor(name: string, message: string, options?: { cause: unknown }) {
    super(message, options);
    this.name = name;
  }
}
