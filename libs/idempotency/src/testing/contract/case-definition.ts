import type { Stage } from './stage.js';

/** A case before it has a database to run on. */
export interface CaseDefinition {
  readonly name: string;
  /** @throws {AssertionError} when it does not hold. */
  readonly prove: (on: Stage) => Promise<void>;
}
