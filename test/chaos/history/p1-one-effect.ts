import { isSuccess } from './answer.js';
import { type Evidence, shownRecord } from './evidence.js';
import { finding, type Judge, KEPT } from './judge.js';
import { listed } from './sightings.js';

/**
 * P1: at most one committed row per key. Exactly one when a call was answered with a success: that it came before an unknown answer, a
 * kill or a takeover makes no difference. In transaction mode none behind an error that the handler decided on, whether the client saw it
 * or only the record tells: the rows are rolled back with it. In lease mode the phases before such an error stand, so that only
 * "at most one" is left; a handler in lease mode is taken to write its row in one phase.
 */
export const oneEffect: Judge = {
  promise: 'P1',
  judge(evidence, { leaseHandlersWrite }) {
    const { effectCount, effects, answers, mode } = evidence;
    if (mode === 'lease' && !leaseHandlersWrite) return 'untold';
    if (effectCount > 1) {
      const rows = effects.map(({ attempt, payload }) => `attempt ${attempt} "${payload}"`);
      return finding(`${effectCount} rows for one key: ${listed(rows)}`);
    }
    const success = answers.find(({ status }) => isSuccess(status));
    if (effectCount === 0 && success) {
      return finding(`no row, although ${success.who} got ${success.first}`, success.calls);
    }
    const error = effectCount > 0 && mode === 'transaction' && !success ? finalErrorOf(evidence) : undefined;
    return error ? finding(`a row, although the outcome is an error: ${error.shown}`, error.calls) : KEPT;
  },
};

function finalErrorOf({
  answers,
  record,
}: Evidence): { shown: string; calls: readonly number[] } | undefined {
  const [answer] = answers;
  if (answer) return { shown: `${answer.who} got ${answer.first}`, calls: answer.calls };
  const isError = record?.status === 'error' && record.responseStatus !== null;
  return isError ? { shown: `the record is ${shownRecord(record)}`, calls: [] } : undefined;
}
