import type { DataSource, QueryRunner } from 'typeorm';
import type { AttemptContext } from './attempt-context.js';
import type { Attempt } from './attempt.js';

/** An attempt as the library itself sees it, in either mode. */
export interface RunningAttempt extends Attempt {
  /** Whether the controller method's own body was entered: pipes and inner interceptors run before it. */
  readonly handlerBegan: boolean;
  /** The runner that work on `dataSource` joins; `undefined` when it goes its own way. */
  joinedRunner(dataSource: DataSource): QueryRunner | undefined;
  /** Enters the controller method's body. */
  enter(context: AttemptContext, handler: () => unknown): unknown;
}
