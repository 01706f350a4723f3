import { setTimeout as delay } from 'node:timers/promises';

const RETRY_MS = 100;

/**
 * Asks until there is an answer, on one connection after another, also over a restart of the database.
 *
 * @param ask is told whether it has been asked before: what it wrote then may stand.
 * @throws its last error, when there is none within `timeoutMs`.
 */
export async function untilAnswered<T>(
  timeoutMs: number,
  ask: (isRepeated: boolean) => Promise<T>,
): Promise<T> {
  const giveUpAt = performance.now() + timeoutMs;
  for (let isRepeated = false; ; isRepeated = true) {
    try {
      return await ask(isRepeated);
    } catch (error) {
      if (performance.now() >= giveUpAt) throw error;
      await delay(RETRY_MS);
    }
  }
}
