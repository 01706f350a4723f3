import { median } from '../report.js';
import type { ServerUnderTest } from '../services/server-under-test.js';
import type { Grown } from './sizes.js';
import { type Figures, fresh, type Load, runSlice } from './slices.js';
import { expiredCount, expireOldest } from './tables.js';

/** What the reaper does, and what that does to requests beside it. */
export interface ReapingResult {
  readonly expired: number;
  /** Records deleted in a second, with requests beside it. */
  readonly deletedPerSecond: number;
  readonly p99MsBefore: number;
  readonly p99MsDuring: number;
  readonly rpsBefore: number;
  readonly rpsDuring: number;
}

const SLICE = { expected: 201, concurrency: 16, durationMs: 1_000 } as const;
const SLICES_BEFORE = 10;

/** First executions before the reaper has anything to do, and while it deletes `expired` records. */
export async function measureReaping(
  load: Load,
  { server, look }: Grown,
  expired: number,
  startReaper: () => Promise<ServerUnderTest>,
): Promise<ReapingResult> {
  await expireOldest(look, expired);
  const slice = (): Promise<Figures> => runSlice(load, server, { ...SLICE, keys: fresh() });
  const before: Figures[] = [];
  for (let count = 0; count < SLICES_BEFORE; count++) before.push(await slice());
  const reaper = await startReaper();
  try {
    const began = performance.now();
    const start = await expiredCount(look);
    const during: Figures[] = [];
    let left = start;
    do {
      during.push(await slice());
      left = await expiredCount(look);
    } while (left > 0);
    const p99 = (of: readonly Figures[]): number => median(of.map(({ p99Ms }) => p99Ms));
    const rps = (of: readonly Figures[]): number => median(of.map((figures) => figures.rps));
    return {
      expired,
      deletedPerSecond: ((start - left) * 1_000) / (performance.now() - began),
      p99MsBefore: p99(before),
      p99MsDuring: p99(during),
      rpsBefore: rps(before),
      rpsDuring: rps(during),
    };
  } finally {
    await reaper.stop();
  }
}
