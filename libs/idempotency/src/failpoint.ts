/**
 * Named points between two writes of an attempt, where a test lets the process stop, die or wait. Each names the race
 * it opens.
 *
 * - `before-claim`: the request is known, nothing is written.
 * - `after-claim`: the record is committed, the row is locked, the handler has not begun.
 * - `handler-returned`: the handler has written all it will, nothing of it is committed.
 * - `record-written`: the record's UPDATE is sent, COMMIT is not.
 * - `commit-sent`: COMMIT is sent, its answer is not read.
 * - `committed`: effect and record are durable, the client has no answer.
 */
export type Failpoint =
  'before-claim' | 'after-claim' | 'handler-returned' | 'record-written' | 'commit-sent' | 'committed';

let reached: ((point: Failpoint) => void) | undefined;

/** Called at each point; does nothing unless a test has armed it. Synchronous, so that a test can stop time there. */
export function failpoint(point: Failpoint): void {
  reached?.(point);
}

/** Arms every failpoint of this process with one function; returns how to disarm it. For tests only. */
export function armFailpoints(onReached: (point: Failpoint) => void): () => void {
  reached = onReached;
  return () => {
    reached = undefined;
  };
}
