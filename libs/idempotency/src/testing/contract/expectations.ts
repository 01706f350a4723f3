import { AssertionError } from 'node:assert/strict';
import { inspect, isDeepStrictEqual } from 'node:util';

/** How long what waits for nobody may take, on a slow machine behind a slow network. */
export const AT_ONCE_MS = 3_000;
const POLL_MS = 5;

/** @throws {AssertionError} with a message that says in one line what was found, and what was to be. */
export function holds(what: string, actual: unknown, expected: unknown): void {
  if (isDeepStrictEqual(actual, expected)) return;
  throw new AssertionError({
    message: `${what}: found ${shown(actual)}, not ${shown(expected)}`,
    actual,
    expected,
    stackStartFn: holds,
  });
}

/** The same for some of the properties that an object has. */
export function agrees(what: string, actual: object | undefined, expected: Record<string, unknown>): void {
  const found = actual as Record<string, unknown> | undefined;
  holds(
    what,
    found && Object.fromEntries(Object.keys(expected).map((name) => [name, found[name]])),
    expected,
  );
}

/** What must not wait for anybody. It goes on behind our back when it does; whoever it waits for is ended with the case. */
export async function atOnce<T>(what: string, work: Promise<T>, withinMs = AT_ONCE_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<never>((_resolve, reject) => {
    const late = (): void => reject(failure(`${what}: no answer within ${withinMs} ms`));
    timer = setTimeout(late, withinMs);
  });
  try {
    return await Promise.race([work, over]);
  } finally {
    clearTimeout(timer);
    work.catch(() => undefined);
  }
}

/** What is begun now and awaited later: should the case fail in between, nobody is left to hear of it. */
export function begun<T>(work: Promise<T>): Promise<T> {
  work.catch(() => undefined);
  return work;
}

/** Asks again until the answer is yes. */
export async function eventually(
  what: string,
  probe: () => Promise<boolean>,
  withinMs = AT_ONCE_MS,
): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!(await probe())) {
    if (performance.now() > deadline) throw failure(`${what}: not within ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** How often each of some words comes. */
export function tally(words: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const word of words.toSorted()) counts[word] = (counts[word] ?? 0) + 1;
  return counts;
}

export function failure(message: string): AssertionError {
  return new AssertionError({ message });
}

function shown(value: unknown): string {
  return inspect(value, { breakLength: Infinity, depth: 6, maxStringLength: 200, maxArrayLength: 40 });
}
