/**
 * Named points between two writes of an attempt, where a test lets the process stop, die or wait. Each names the race
 * it opens.
 *
 * - `before-claim`: the request is known, nothing is written.
 * - `after-claim`: the record is committed, the handler has not begun.
 * - `handler-returned`: the handler has written all it will, nothing of it is committed.
 * - `record-written`: the record's UPDATE is sent, COMMIT is not (transaction mode).
 * - `commit-sent`: COMMIT, in lease mode the record's UPDATE, is sent, its answer is not read.
 * - `committed`: effect and record are durable, the client has no answer.
 *
 * In lease mode besides:
 *
 * - `step-begins`, `step-done`, `step-journaled`: before the step's function, after it, after its entry is committed.
 * - `phase-begins`, `phase-done`, `phase-commit-sent`, `phase-committed`: before its transaction, after its function, and
 *   around its COMMIT.
 * - `heartbeat-due`, `heartbeat-done`: around a renewal.
 */
export type Failpoint =
  | 'before-claim'
  | 'after-claim'
  | 'handler-returned'
  | 'record-written'
  | 'commit-sent'
  | 'committed'
  | 'step-begins'
  | 'step-done'
  | 'step-journaled'
  | 'phase-begins'
  | 'phase-done'
  | 'phase-commit-sent'
  | 'phase-committed'
  | 'heartbeat-due'
  | 'heartbeat-done';

let reached: ((point: Failpoint) => void) | undefined;

/** Called at each point; does nothing unless a test has armed it. Synchronous, so that a test can stop time there. */
export function failpoint(point: Failpoint): void {
  reached?.(point);
}

/** Whether a test has: what is only done to make a point reachable is left out otherwise. */
export function areFailpointsArmed(): boolean {
  return reached !== undefined;
}

/** Arms every failpoint of this process with one function; returns how to disarm it. For tests only. */
export function armFailpoints(onReached: (point: Failpoint) => void): () => void {
  reached = onReached;
  return () => {
    reached = undefined;
  };
}
