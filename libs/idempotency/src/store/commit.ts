import type { QueryResult } from 'pg';
import type { BatchAnswer } from './batch.js';
import type { Session, Statement } from './session.js';
import { CommitRefusedError, isRefusal } from './sql-state.js';

export type CommitResult =
  /** `answers`: to the statements, COMMIT the last. */
  | { readonly kind: 'committed'; readonly answers: readonly BatchAnswer[] }
  /** PostgreSQL said no: nothing was committed. */
  | { readonly kind: 'refused'; readonly cause: unknown }
  /** The connection went after COMMIT was sent and before its answer came. */
  | { readonly kind: 'unknown'; readonly cause: unknown };

/** Sends statements together where the connection pipelines, else one after another until one fails. */
export async function flush(
  session: Session,
  statements: readonly Statement[],
): Promise<PromiseSettledResult<QueryResult>[]> {
  if (session.pipelined) return Promise.allSettled(statements.map((statement) => session.query(statement)));
  const results: PromiseSettledResult<QueryResult>[] = [];
  for (const statement of statements) {
    const [result] = await Promise.allSettled([session.query(statement)]);
    results.push(result);
    if (result.status === 'rejected') break;
  }
  return results;
}

/**
 * Sends statements and their COMMIT together. When one of them fails the transaction is still open, and failed.
 *
 * `onSent`: see {@link sendBatch}.
 */
export async function commit(
  session: Session,
  before: readonly Statement[],
  commitText: string,
  { onSent }: { readonly onSent?: ((what: 'record' | 'commit') => void) | undefined } = {},
): Promise<CommitResult> {
  const wasLost = session.isLost;
  try {
    const answers = await session.batch([...before, { text: commitText }], onSent);
    assertCommitted(answers.at(-1));
    return { kind: 'committed', answers };
  } catch (cause) {
    // An answer that says no, or a connection that was gone before, is certain; silence, or a server that went down
    // while it worked on it, is not.
    return wasLost || isRefusal(cause) ? { kind: 'refused', cause } : { kind: 'unknown', cause };
  }
}

/** PostgreSQL answers COMMIT of a failed transaction with ROLLBACK, and without an error. */
function assertCommitted(answer: { readonly command: string } | undefined): void {
  const command = answer?.command ?? '';
  if (command !== 'COMMIT') throw new CommitRefusedError(command);
}

/** Checks that every statement succeeded, and that COMMIT did commit. */
export function committed(results: readonly PromiseSettledResult<QueryResult>[]): QueryResult[] {
  const answers = results.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
  assertCommitted(answers.at(-1));
  return answers;
}
