import { Slope } from '../history/slope.js';
import type { HistoryVerdict } from '../history/verdict.js';
import type { Plan } from '../plan.js';
import type { Run } from '../run.js';
import type { Timeline } from './timeline.js';

/** A run in figures. Times are in milliseconds. */
export interface Figures {
  readonly seed: number;
  readonly again: string;
  readonly date: string;
  readonly seconds: number;
  readonly violations: number;
  readonly checked: HistoryVerdict['checked'];
  readonly promises: HistoryVerdict['promises'];
  /** What it was to do and has not done. */
  readonly notShown: readonly string[];
  readonly faults: Readonly<Record<string, number>>;
  readonly outcomes: Timeline['outcomes'];
  readonly freedMs: Percentiles;
  readonly answeredElsewhereMs: Percentiles;
  readonly recoveryMs: Percentiles;
  readonly bystanderP99Ms: Timeline['bystanderP99Ms'];
  /** Least squares over the samples since the first fault. */
  readonly residentBytesPerMinute: number;
}

export interface Percentiles {
  readonly count: number;
  readonly p50: number | null;
  readonly p99: number | null;
  readonly max: number | null;
}

export function figuresOf(
  plan: Plan,
  { tally, seconds }: Run,
  verdict: HistoryVerdict,
  timeline: Timeline,
  notShown: readonly string[],
): Figures {
  const counts = [...tally.counts].toSorted(([a], [b]) => a.localeCompare(b));
  return {
    seed: plan.seed,
    again: againBy(plan),
    date: new Date().toISOString(),
    seconds: Math.round(seconds),
    violations: verdict.total,
    checked: verdict.checked,
    promises: verdict.promises,
    notShown,
    faults: Object.fromEntries(counts),
    outcomes: timeline.outcomes,
    freedMs: percentilesOf(tally.freedMs),
    answeredElsewhereMs: percentilesOf(tally.answeredMs),
    recoveryMs: percentilesOf(timeline.recoveriesMs),
    bystanderP99Ms: timeline.bystanderP99Ms,
    residentBytesPerMinute: Math.round(growthOf(timeline) * 60_000),
  };
}

/** The command that takes the same decisions again. */
function againBy({ seed, faultsMs, isGate }: Plan): string {
  return `npm run chaos -- ${isGate ? '--gate' : `--minutes ${faultsMs / 60_000}`} --seed ${seed}`;
}

function percentilesOf(values: readonly number[]): Percentiles {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): number | null => {
    const value = sorted[Math.ceil(sorted.length * share) - 1];
    return value === undefined ? null : Math.round(value * 10) / 10;
  };
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) };
}

/** Bytes in a millisecond. */
function growthOf({ resident, faults }: Timeline): number {
  const firstFaultMs = Math.min(...faults.map(({ atMs }) => atMs));
  const slope = new Slope();
  for (const { atMs, bytes } of resident) if (atMs >= firstFaultMs) slope.add(atMs, bytes);
  return slope.value() ?? Number.NaN;
}
