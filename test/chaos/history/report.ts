import { type HistoryVerdict, PROMISE_NAMES, PROMISES, type Violation } from './verdict.js';

/**
 * A verdict for people: what was looked at, a line for each promise, the violations that are listed, and how many there are in all in the
 * last line.
 */
export function report({ violations, total, promises, checked }: HistoryVerdict): string {
  const looked = Object.entries(checked).map(([what, count]) => `${what} ${count}`);
  const lines = PROMISE_NAMES.flatMap((name) => {
    const { checked: times, violations: broken } = promises[name];
    const verdict = times === 0 && broken === 0 ? 'untold' : broken === 0 ? 'kept' : `broken ${broken} times`;
    const listed = violations.filter(({ promise }) => promise === name);
    const rest = broken - listed.length;
    return [
      `${name.padEnd(4)}${verdict}, checked ${times} times: ${PROMISES[name]}`,
      ...listed.map((violation) => `      ${shown(violation)}`),
      ...(rest > 0 ? [`      and ${rest} more`] : []),
    ];
  });
  return [looked.join(', '), ...lines, `${total} violations in ${checked.requests} checked requests`].join(
    '\n',
  );
}

function shown({ subject, calls, message }: Violation): string {
  const where = subject ? `"${subject.key}" of "${subject.scope}", ${subject.operation}: ` : '';
  return `${where}${message}${calls.length > 0 ? ` [calls ${calls.join(', ')}]` : ''}`;
}
