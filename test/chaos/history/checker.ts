import type { HistoryEvent } from './event.js';
import type { CheckOptions } from './options.js';
import type { HistoryVerdict } from './verdict.js';

/**
 * Holds a history against the promises P1 to P10, in one pass and in a time that grows with its length alone.
 *
 * @param events in the order of the file.
 * @throws BrokenHistoryError when the history cannot be right, or holds no request of a protected route.
 */
export function checkHistory(
  _events: AsyncIterable<HistoryEvent> | Iterable<HistoryEvent>,
  _options: Partial<CheckOptions> = {},
): Promise<HistoryVerdict> {
  throw new Error('to be written');
}
