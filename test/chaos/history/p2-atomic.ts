import { isSuccess } from './answer.js';
import { type Evidence, shownRecord } from './evidence.js';
import { finding, type Judge, KEPT } from './judge.js';

/**
 * P2: the record is `completed` if and only if the key's row is there. A tombstone is a completed record, too: its effect stands.
 *
 * In transaction mode a row needs a completed record whatever became of the client. In lease mode a phase commits before the outcome
 * does, so that a row may stand behind a pending record, which the next attempt goes on with, or behind a final error. What it cannot
 * stand behind is no record, a released one, or a success that was answered without being recorded.
 *
 * A row behind a final error in transaction mode is left to P1, which says more about it.
 */
export const atomic: Judge = {
  promise: 'P2',
  judge(evidence, { leaseHandlersWrite }) {
    const { effectCount, recordCount, record, mode } = evidence;
    if (effectCount === 0 && recordCount === 0) return 'untold';
    if (recordCount > 1) return finding(`${recordCount} records for one key`);
    if (mode === 'lease' && !leaseHandlersWrite) return 'untold';
    if (record?.status === 'completed') {
      return effectCount > 0 ? KEPT : finding(`a record without its row: ${shownRecord(record)}`);
    }
    if (effectCount === 0 || mayLackCompletion(evidence)) return KEPT;
    const row = `a row of attempt ${evidence.effects[0]?.attempt} without a completed record`;
    return finding(`${row}: ${record ? `it is ${shownRecord(record)}` : 'there is none'}`);
  },
};

/** Whether the row may stand although its record is not completed. */
function mayLackCompletion({ mode, record, answers }: Evidence): boolean {
  if (record?.status === 'error' && record.responseStatus !== null) return true;
  return mode === 'lease' && record?.status === 'pending' && !answers.some(({ status }) => isSuccess(status));
}
