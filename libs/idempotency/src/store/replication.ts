import { commit, type CommitResult } from './commit.js';
import type { Session, Statement } from './session.js';

/** How long an answer that stands here is held back for the standbys. */
const STANDBY_WAIT_MS = 2_000;

/** It is committed and visible on this server; a failover may take it back. */
export class NotReplicatedError extends Error {
  override readonly name = 'NotReplicatedError';
  constructor() {
    super(
      'PostgreSQL has committed, but has not waited for its synchronous standby: a failover may take it back',
    );
  }
}

/** Whether COMMIT of this session waits for a standby. It can be changed while the server runs: READ asks with every record. */
export const WAITS_FOR_STANDBY = `(current_setting('synchronous_standby_names') <> ''
        AND current_setting('synchronous_commit') NOT IN ('off', 'local'))`;

/**
 * A commit with nothing in it, which waits for the standbys as every other. The log is sent in its order: when it has
 * arrived, so has all that is visible now.
 *
 * - a message in the log, because a transaction that has written nothing waits for nobody.
 * - `statement_timeout` for the COMMIT behind it: it ends the wait with the warning and leaves the connection in order. One that is
 *   cut off would leave its backend waiting for as long as the standby is away.
 *
 * $1 in ms
 */
const MARK = `
SELECT set_config('statement_timeout', $1::text, true),
       pg_logical_emit_message(true, 'nestjs-pg-idempotency', '')`;

const OUTSIDE: readonly [before: Statement[], commit: string] = [
  [{ text: 'BEGIN ISOLATION LEVEL READ COMMITTED' }],
  'COMMIT',
];
/** Where a transaction is open that has nothing to commit, another one is open afterwards. */
const INSIDE: typeof OUTSIDE = [[], 'COMMIT AND CHAIN'];

/**
 * Waits, for `waitMs` at most, until what is visible here stands on the synchronous standbys, too.
 *
 * Fail closed: without an answer it does not.
 *
 * @throws {NotReplicatedError} when it does not in that time.
 */
export async function awaitStandby(
  session: Session,
  {
    waitMs = STANDBY_WAIT_MS,
    inTransaction = false,
  }: { readonly waitMs?: number; readonly inTransaction?: boolean } = {},
): Promise<void> {
  const [before, commitText] = inTransaction ? INSIDE : OUTSIDE;
  const mark = { text: MARK, values: [Math.max(1, Math.ceil(waitMs))] };
  const result = await unlessUnreplicated(session, () => commit(session, [...before, mark], commitText));
  if (result.kind !== 'committed') throw result.cause;
}

/** A commit that was answered, and that a failover may take back all the same, is neither success nor failure. */
export async function unlessUnreplicated(
  session: Session,
  commits: () => Promise<CommitResult>,
): Promise<CommitResult> {
  const before = session.unreplicated;
  const result = await commits();
  if (result.kind !== 'committed' || session.unreplicated === before) return result;
  return { kind: 'unknown', cause: new NotReplicatedError() };
}

/** The same for a statement that is its own transaction. @throws {NotReplicatedError} */
export async function replicated<T>(session: Session, statement: () => Promise<T>): Promise<T> {
  const before = session.unreplicated;
  const result = await statement();
  if (session.unreplicated > before) throw new NotReplicatedError();
  return result;
}
