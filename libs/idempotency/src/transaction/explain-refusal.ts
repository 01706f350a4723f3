import { IN_FAILED_TRANSACTION, sqlStateOf } from '../store/sql-state.js';

/** Why PostgreSQL refused a commit, in words for whoever wrote the code in that transaction. */
export function explainRefusal(cause: unknown): unknown {
  if (sqlStateOf(cause) !== IN_FAILED_TRANSACTION) return cause;
  return new Error(
    'The handler returned although one of its statements had failed: PostgreSQL had aborted the transaction, so ' +
      'nothing was committed. Put a statement that may fail into a nested dataSource.transaction(), and catch there.',
    { cause },
  );
}
