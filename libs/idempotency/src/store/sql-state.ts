/** SQLSTATE of an error of node-postgres or of TypeORM around it, `undefined` for any other error. */
export function sqlStateOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null) return undefined;
  const { code, driverError } = error as { code?: unknown; driverError?: { code?: unknown } };
  const found = driverError?.code ?? code;
  // Every SQLSTATE has a digit; Node's EPIPE is five capitals too.
  return typeof found === 'string' && /^(?=.*\d)[0-9A-Z]{5}$/.test(found) ? found : undefined;
}

/** `55P03`: the row stayed locked for longer than `lock_timeout`. */
export const LOCK_NOT_AVAILABLE = '55P03';
/** `40001`: under REPEATABLE READ and above, the row was changed by a transaction this one cannot see. */
export const SERIALIZATION_FAILURE = '40001';
/** `40P01`: PostgreSQL broke a deadlock by aborting this transaction. */
export const DEADLOCK_DETECTED = '40P01';
/** `25P02`: an earlier statement failed, PostgreSQL ignores all others until a rollback. */
export const IN_FAILED_TRANSACTION = '25P02';

/** `25006`: a write in a read-only transaction, as every one is on a standby. */
const READ_ONLY_SQL_TRANSACTION = '25006';

/** Whether the server, or the transaction, takes no writes. */
export function isReadOnly(error: unknown): boolean {
  return sqlStateOf(error) === READ_ONLY_SQL_TRANSACTION;
}

/** Whether a statement lost against another transaction, so that the same request may well succeed when repeated. */
export function isTransactionConflict(error: unknown): boolean {
  const state = sqlStateOf(error);
  return state === SERIALIZATION_FAILURE || state === DEADLOCK_DETECTED || state === LOCK_NOT_AVAILABLE;
}

/**
 * Whether PostgreSQL itself answered that it did not commit. A FATAL or PANIC is no such answer: the server went down,
 * or the backend was terminated, at a moment nobody knows.
 */
export function isRefusal(error: unknown): boolean {
  if (error instanceof CommitRefusedError) return true;
  const severity = (error as { severity?: unknown } | null)?.severity;
  return sqlStateOf(error) !== undefined && severity === 'ERROR';
}

/** COMMIT of a failed transaction: PostgreSQL rolled back and said so in the command tag only. */
export class CommitRefusedError extends Error {
  override readonly name = 'CommitRefusedError';
  constructor(command: string) {
    super(`PostgreSQL answered COMMIT with ${command}: an earlier statement of the transaction had failed`);
  }
}
