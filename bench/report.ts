import type { Sample } from './measure.js';
import { NOOP } from './workloads.js';

/** A workload on a platform at a concurrency, over all rounds. */
export interface Result {
  readonly workload: string;
  readonly platform: string;
  readonly concurrency: number;
  readonly medianRps: number;
  readonly minRps: number;
  readonly maxRps: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Throughput by that of the plain transaction in the same round; the median of the rounds. */
  readonly ratioToPlain: number | null;
  readonly minRatioToPlain: number | null;
  readonly maxRatioToPlain: number | null;
  /** The 99th percentile by that of the plain transaction in the same round; the median of the rounds. */
  readonly p99RatioToPlain: number | null;
  readonly ratioToNoop: number | null;
  readonly cpuMsPerRequest: number;
  readonly postgresCpuMsPerRequest: number;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

export function summarise(samples: readonly Sample[]): readonly Result[] {
  const groups = new Map<string, Sample[]>();
  for (const sample of samples) {
    const name = nameOf(sample);
    groups.set(name, [...(groups.get(name) ?? []), sample]);
  }
  return [...groups.values()].map((group) => resultOf(group, samples));
}

const nameOf = ({ platform, concurrency, workload }: Sample): string =>
  [platform, concurrency, workload].join();

function resultOf(group: readonly Sample[], all: readonly Sample[]): Result {
  const { workload, plain, platform, concurrency } = group[0] as Sample;
  /** Of each round, this workload's figure by that of another. */
  const ratios = (other: string, figure: (sample: Sample) => number): number[] =>
    group.flatMap((sample) => {
      const beside = all.find(
        (candidate) =>
          candidate.workload === other &&
          candidate.platform === platform &&
          candidate.concurrency === concurrency &&
          candidate.round === sample.round,
      );
      return beside ? [figure(sample) / figure(beside)] : [];
    });
  const rps = group.map((sample) => sample.rps);
  const toPlain = ratios(plain, (sample) => sample.rps);
  const orNull = (values: readonly number[], of: (values: readonly number[]) => number): number | null =>
    values.length === 0 ? null : of(values);
  return {
    workload,
    platform,
    concurrency,
    medianRps: median(rps),
    minRps: Math.min(...rps),
    maxRps: Math.max(...rps),
    p50Ms: median(group.map((sample) => sample.p50Ms)),
    p99Ms: median(group.map((sample) => sample.p99Ms)),
    ratioToPlain: orNull(toPlain, median),
    minRatioToPlain: orNull(toPlain, (values) => Math.min(...values)),
    maxRatioToPlain: orNull(toPlain, (values) => Math.max(...values)),
    p99RatioToPlain: orNull(
      ratios(plain, (sample) => sample.p99Ms),
      median,
    ),
    ratioToNoop: orNull(
      ratios(NOOP, (sample) => sample.rps),
      median,
    ),
    cpuMsPerRequest: median(group.map((sample) => sample.cpuMs)),
    postgresCpuMsPerRequest: median(group.map((sample) => sample.postgresCpuMs)),
  };
}

const HEAD = [
  'workload',
  'platform',
  'conc.',
  'req/s',
  'min–max',
  'p50 ms',
  'p99 ms',
  '÷ plain',
  'min–max',
  'p99 ÷ plain',
  '÷ no-op',
  'app CPU ms',
  'PostgreSQL CPU ms',
];

/** The results as a table of plain text. */
export function tableOf(results: readonly Result[]): string {
  const ratio = (value: number | null): string => (value === null ? '' : value.toFixed(2));
  const rows = results.map((result) => [
    result.workload,
    result.platform,
    String(result.concurrency),
    result.medianRps.toFixed(0),
    `${result.minRps.toFixed(0)}–${result.maxRps.toFixed(0)}`,
    result.p50Ms.toFixed(2),
    result.p99Ms.toFixed(2),
    ratio(result.ratioToPlain),
    `${ratio(result.minRatioToPlain)}–${ratio(result.maxRatioToPlain)}`,
    ratio(result.p99RatioToPlain),
    ratio(result.ratioToNoop),
    result.cpuMsPerRequest.toFixed(3),
    result.postgresCpuMsPerRequest.toFixed(3),
  ]);
  const widths = HEAD.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => (row[column] as string).length)),
  );
  return [HEAD, ...rows]
    .map((row) =>
      row
        .map((cell, column) =>
          column < 2 ? cell.padEnd(widths[column] as number) : cell.padStart(widths[column] as number),
        )
        .join('  '),
    )
    .join('\n');
}
