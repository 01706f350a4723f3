import type { Fault } from '../history/event.js';
import { Windows } from '../history/windows.js';

/** A request through the balancer, by when it was sent. */
export interface Ended {
  readonly sentMs: number;
  readonly isAnswered: boolean;
}

/** One crash of the database, in milliseconds. */
export interface Recovery {
  /** From the crash until PostgreSQL has recovered and takes connections. */
  readonly databaseMs: number;
  /** From then until the application answers 99 % of what it answers under all the other faults. */
  readonly applicationMs: number;
}

const WINDOW_MS = 1_000;
/** Fewer say nothing of a share of 99 in 100. */
const LEAST_REQUESTS = 20;
const ANSWERED_SHARE = 0.99;
/** What a crash may still be felt in. */
const FELT_MS = 10_000;
const DEADLINE_MS = 60_000;

/**
 * The first moment from which a second's requests are answered as they are without a crash, under all that is broken besides; none when the run
 * ends before, or the next crash comes.
 *
 * @param ended in the order in which they were sent.
 */
export function recoveriesOf(faults: readonly Fault[], ended: readonly Ended[]): readonly Recovery[] {
  const crashes = faults.filter(({ name }) => name === 'crash').toSorted((a, b) => a.atMs - b.atMs);
  const share = ANSWERED_SHARE * shareWithout(crashes, faults, ended);
  return crashes.flatMap(({ atMs, untilMs }, index) => {
    const nextMs = crashes[index + 1]?.atMs ?? Number.POSITIVE_INFINITY;
    const applicationMs = answeredAgain(ended, share, untilMs, Math.min(nextMs, untilMs + DEADLINE_MS));
    return applicationMs === undefined ? [] : [{ databaseMs: untilMs - atMs, applicationMs }];
  });
}

/** Of the requests under faults, how many are answered: 0 to 1. */
function shareWithout(crashes: readonly Fault[], faults: readonly Fault[], ended: readonly Ended[]): number {
  const firstMs = faults.reduce((first, { atMs }) => Math.min(first, atMs), Number.POSITIVE_INFINITY);
  const lastMs = faults.reduce((last, { untilMs }) => Math.max(last, untilMs), 0);
  const felt = new Windows(
    crashes.map(({ atMs, untilMs }) => ({ from: atMs - 1_000, to: untilMs + FELT_MS })),
  );
  const others = ended.filter(
    ({ sentMs }) => sentMs >= firstMs && sentMs <= lastMs && !felt.contain(sentMs, sentMs),
  );
  return others.length === 0 ? 1 : others.filter(({ isAnswered }) => isAnswered).length / others.length;
}

function answeredAgain(
  ended: readonly Ended[],
  share: number,
  fromMs: number,
  toMs: number,
): number | undefined {
  const after = ended.filter(({ sentMs }) => sentMs >= fromMs && sentMs < toMs);
  let last = 0;
  let answered = 0;
  for (const [first, { sentMs, isAnswered }] of after.entries()) {
    for (
      let next = after[last];
      next !== undefined && next.sentMs < sentMs + WINDOW_MS;
      next = after[++last]
    ) {
      if (next.isAnswered) answered++;
    }
    const sent = last - first;
    if (sent >= LEAST_REQUESTS && answered >= share * sent) return sentMs - fromMs;
    if (isAnswered) answered--;
  }
  return undefined;
}
