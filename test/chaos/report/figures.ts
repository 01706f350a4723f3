import type { Sample } from '../history/event.js';
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
  /** From the start of the servers until the last one was stopped. */
  readonly seconds: number;
  readonly violations: number;
  readonly checked: HistoryVerdict['checked'];
  readonly promises: HistoryVerdict['promises'];
  /** What it was to do and has not done. */
  readonly notShown: readonly string[];
  readonly faults: Readonly<Record<string, number>>;
  readonly outcomes: Timeline['outcomes'];
  /** From the end of an owner's process in transaction mode until a claim may lock its row. */
  readonly keyFreedMs: Percentiles;
  /** From the signal that ends it: with what the kernel takes to tear the process down. */
  readonly keyFreedFromSignalMs: Percentiles;
  /** From the death of an owner in transaction mode until a retry on another instance has the final answer. */
  readonly answeredElsewhereMs: Percentiles;
  /** From a crash of PostgreSQL until it takes connections again. */
  readonly databaseRecoveryMs: Percentiles;
  /** From then until the application answers 99 % of what it answers under the other faults. */
  readonly recoveryMs: Percentiles;
  readonly bystander: {
    /** Before the first fault. */
    readonly baselineP99Ms: number;
    /** Of those, and of calls between faults. */
    readonly awayP99Ms: number;
    /** Of calls during faults that do not strike the bystander itself, as P8 compares them. */
    readonly faultsP99Ms: number;
    readonly calls: number;
    /** Of calls during faults to those away from them: both had the same machine, and processes of the same age. */
    readonly ratio: number | null;
    /** Of all its calls from the first fault to the last one: also those whose process was killed or frozen, or whose database crashed. */
    readonly anyFaultP99Ms: number;
  };
  readonly held: { readonly baseline: Held; readonly end: Held };
  /** Least squares over the samples since the first fault. */
  readonly residentBytesPerMinute: number | null;
}

export interface Percentiles {
  readonly count: number;
  readonly p50: number | null;
  readonly p99: number | null;
  readonly max: number | null;
}

/** What was held at the most in a phase: by the instance that is never killed, and in the database. */
export type Held = Omit<Sample, 'kind' | 'atMs' | 'phase'>;

export function figuresOf(
  plan: Plan,
  { tally, seconds }: Run,
  verdict: HistoryVerdict,
  timeline: Timeline,
  notShown: readonly string[],
): Figures {
  const counts = [...tally.counts].toSorted(([a], [b]) => a.localeCompare(b));
  const { before, away, during } = verdict.bystanderP99Ms;
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
    keyFreedMs: percentilesOf(tally.freedMs),
    keyFreedFromSignalMs: percentilesOf(tally.freedFromSignalMs),
    answeredElsewhereMs: percentilesOf(tally.answeredMs),
    databaseRecoveryMs: percentilesOf(timeline.recoveries.map(({ databaseMs }) => databaseMs)),
    recoveryMs: percentilesOf(timeline.recoveries.map(({ applicationMs }) => applicationMs)),
    bystander: {
      baselineP99Ms: before,
      awayP99Ms: away,
      faultsP99Ms: during,
      calls: verdict.promises.P8.checked,
      ratio: away > 0 && during > 0 ? Math.round((during / away) * 100) / 100 : null,
      anyFaultP99Ms: timeline.bystanderFaultsP99Ms,
    },
    held: { baseline: mostHeld(timeline, 'baseline'), end: mostHeld(timeline, 'end') },
    residentBytesPerMinute: growthOf(timeline),
  };
}

/** The command that takes the same decisions again. */
function againBy({ seed, faultsMs, form }: Plan): string {
  const minutes = `--minutes ${faultsMs / 60_000}`;
  const forms = { gate: '--gate', fierce: `--fierce ${minutes}`, calm: minutes };
  return `npm run chaos -- ${forms[form]} --seed ${seed}`;
}

function percentilesOf(values: readonly number[]): Percentiles {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): number | null => {
    const value = sorted[Math.ceil(sorted.length * share) - 1];
    return value === undefined ? null : Math.round(value * 10) / 10;
  };
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) };
}

function mostHeld({ samples }: Timeline, phase: Sample['phase']): Held {
  const of = samples.filter((sample) => sample.phase === phase);
  const most = (name: keyof Held): number => of.reduce((max, sample) => Math.max(max, sample[name]), 0);
  return {
    residentBytes: most('residentBytes'),
    poolConnections: most('poolConnections'),
    idleInTransaction: most('idleInTransaction'),
    timers: most('timers'),
    expiredRecords: most('expiredRecords'),
  };
}

function growthOf({ samples, faults }: Timeline): number | null {
  const firstFaultMs = faults.reduce((first, { atMs }) => Math.min(first, atMs), Number.POSITIVE_INFINITY);
  const slope = new Slope();
  for (const { atMs, residentBytes } of samples) if (atMs >= firstFaultMs) slope.add(atMs, residentBytes);
  const perMs = slope.value();
  return perMs === undefined ? null : Math.round(perMs * 60_000);
}
