import type pg from 'pg';
import type { ServerUnderTest } from '../services/server-under-test.js';
import { type Figures, fresh, type Load, runSlice } from './slices.js';
import { type Size, sizeOf } from './tables.js';

/** How the table stood after one more minute. */
export interface ChurnMinute extends Size, Figures {
  readonly minute: number;
}

/** Records are written one after another, and deleted when their time is over, for so many minutes. */
export async function churn(
  load: Load,
  { server, look, minutes }: { server: ServerUnderTest; look: pg.Client; minutes: number },
  onMinute: (minute: ChurnMinute) => void,
): Promise<readonly ChurnMinute[]> {
  const told: ChurnMinute[] = [];
  for (let minute = 1; minute <= minutes; minute++) {
    const slice = { keys: fresh(), expected: 201, concurrency: 1, durationMs: 59_000 } as const;
    const figures = await runSlice(load, server, slice);
    const state = { minute, ...figures, ...(await sizeOf(look)) };
    told.push(state);
    onMinute(state);
  }
  return told;
}
