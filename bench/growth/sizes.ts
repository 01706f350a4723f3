import type pg from 'pg';
import { median } from '../report.js';
import type { ServerUnderTest } from '../services/server-under-test.js';
import { type Figures, fresh, type Load, runSlice } from './slices.js';

/** A database with so many records, and a server on it. */
export interface Grown {
  /** `${prefix}-0` to `${prefix}-${records - 1}` are known. */
  readonly records: number;
  readonly prefix: string;
  readonly url: string;
  readonly server: ServerUnderTest;
  readonly look: pg.Client;
}

/** More than a slice can ask for. */
const KEYS_OF_A_SLICE = 10_000;

/**
 * The least that replays are measured on: no key is asked for twice in a run. A process that knows a record to be finished looks it up,
 * and does not claim; so every replay is, on any size, that of a record which the process has not seen.
 */
export const leastToReplay = (rounds: number): number => KEYS_OF_A_SLICE * REPLAYS.length * (rounds + 1);

export interface GrowthResult extends Figures {
  readonly records: number;
  readonly workload: 'first execution' | Replay;
  /** By the same figure of the smallest table in the same round; the median of the rounds. */
  readonly p50Ratio: number;
  readonly p99Ratio: number;
}

/** Of the ones written last, which is where retries come, or of all. Of the smallest table both are the same. */
const REPLAYS = ['replay of a recent record', 'replay of any record'] as const;
type Replay = (typeof REPLAYS)[number];

/** A prime: coprime to every number of records that is no multiple of it, and consecutive questions lie far apart in the table. */
const STRIDE = 7_654_337;
const CONCURRENCY = 16;
const SLICE_MS = 1_000;

/** Measures first executions on all of `grown` and replays on all of `toReplay` side by side. */
export async function measureSizes(
  load: Load,
  { grown, toReplay, rounds }: { grown: readonly Grown[]; toReplay: readonly Grown[]; rounds: number },
  onRound: (round: number) => void,
): Promise<readonly GrowthResult[]> {
  const cases = [
    ...grown.map((of) => ({ of, workload: 'first execution' as const, figures: [] as Figures[] })),
    ...REPLAYS.flatMap((workload) => toReplay.map((of) => ({ of, workload, figures: [] as Figures[] }))),
  ];
  const run = ({ of, workload }: (typeof cases)[number], round: number): Promise<Figures> => {
    const slice = { concurrency: CONCURRENCY, durationMs: SLICE_MS };
    if (workload === 'first execution') {
      return runSlice(load, of.server, { ...slice, keys: fresh(), expected: 201 });
    }
    const recent = Math.min(of.records, leastToReplay(rounds));
    const asked = KEYS_OF_A_SLICE * ((round + 1) * REPLAYS.length + REPLAYS.indexOf(workload));
    const known = {
      kind: 'known',
      prefix: of.prefix,
      ...(workload === 'replay of any record'
        ? { count: of.records }
        : { count: recent, first: of.records - recent }),
      stride: STRIDE,
      from: asked * STRIDE,
    } as const;
    return runSlice(load, of.server, { ...slice, keys: known, expected: 200 });
  };
  for (const each of cases) await run(each, -1);
  for (let round = 0; round < rounds; round++) {
    for (const each of shuffled(cases)) each.figures.push(await run(each, round));
    onRound(round);
  }
  return cases.map(({ of, workload, figures }) => {
    const smallest = cases.find((other) => other.workload === workload)?.figures ?? [];
    const ratio = (name: 'p50Ms' | 'p99Ms'): number =>
      median(figures.map((each, round) => each[name] / (smallest[round]?.[name] ?? Number.NaN)));
    return {
      records: of.records,
      workload,
      rps: median(figures.map(({ rps }) => rps)),
      p50Ms: median(figures.map(({ p50Ms }) => p50Ms)),
      p99Ms: median(figures.map(({ p99Ms }) => p99Ms)),
      p50Ratio: ratio('p50Ms'),
      p99Ratio: ratio('p99Ms'),
    };
  });
}

/** Another order in each round: what a case leaves behind (a warm cache, pages to write) is not always the same one's burden. */
function shuffled<T>(cases: readonly T[]): readonly T[] {
  const left = [...cases];
  return cases.map(() => left.splice(Math.floor(Math.random() * left.length), 1)[0] as T);
}
