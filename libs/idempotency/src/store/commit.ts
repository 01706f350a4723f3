import type { QueryResult } from 'pg';
import type { Session, Statement } from './session.js';
import { CommitRefusedError, isRefusal, SERIALIZATION_FAILURE, sqlStateOf } from './sql-state.js';

export type CommitResult =
  /** `answers`: to the statements, COMMIT the last. */
  | { readonly kind: 'committed'; readonly answers: readonly QueryResult[] }
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
    // A failed claim under REPEATABLE READ is no failure (see claim()); it stands outside the transaction.
    if (result.status === 'rejected' && sqlStateOf(result.reason) !== SERIALIZATION_FAILURE) break;
  }
  return results;
}

export async function commit(
  session: Session,
  before: readonly Statement[],
  commitText: string,
  { onSent }: { readonly onSent?: ((what: 'record' | 'commit') => void) | undefined } = {},
): Promise<CommitResult> {
  let commitSent = false;
  const sendCommit = (): Promise<QueryResult> => {
    onSent?.('record');
    const answer = session.query({ text: commitText });
    commitSent = !session.isLost;
    onSent?.('commit');
    return answer;
  };
  const results: PromiseSettledResult<QueryResult>[] = [];
  if (session.pipelined) {
    const answers = before.map((statement) => session.query(statement));
    results.push(...(await Promise.allSettled([...answers, sendCommit()])));
  } else {
    results.push(...(await flush(session, before)));
    if (results.every(({ status }) => status === 'fulfilled')) {
      results.push(...(await Promise.allSettled([sendCommit()])));
    }
  }
  try {
    return { kind: 'committed', answers: committed(results) };
  } catch (cause) {
    // A loss before COMMIT was sent, or an answer that says no, is certain; silence after it, or a server that went
    // down while it worked on it, is not.
    return commitSent && !isRefusal(cause) ? { kind: 'unknown', cause } : { kind: 'refused', cause };
  }
}

/**
 * Checks that every statement succeeded and that COMMIT did commit: PostgreSQL answers COMMIT of a failed transaction
 * with ROLLBACK, and without an error.
 */
export function committed(results: readonly PromiseSettledResult<QueryResult>[]): QueryResult[] {
  const answers = results.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
  const { command } = answers.at(-1) as QueryResult;
  if (command !== 'COMMIT') throw new CommitRefusedError(command);
  return answers;
}
