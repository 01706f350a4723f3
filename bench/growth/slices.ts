import { randomUUID } from 'node:crypto';
import type { KeyPlan, LoadOrder, LoadResult } from '../load/load.js';
import type { Child } from '../services/child.js';
import type { ServerUnderTest } from '../services/server-under-test.js';

export type Load = Child<LoadOrder, LoadResult>;

/** What a slice of load came to. */
export interface Figures {
  readonly rps: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

export interface Slice {
  readonly keys: KeyPlan;
  readonly expected: number;
  readonly concurrency: number;
  readonly durationMs: number;
}

export const fresh = (): KeyPlan => ({ kind: 'fresh', prefix: randomUUID() });

/** @throws when a server answers what was not expected: a wrong answer has no speed. */
export async function runSlice(
  load: Load,
  server: ServerUnderTest,
  { keys, expected, concurrency, durationMs }: Slice,
): Promise<Figures> {
  const { url } = server;
  const order = { url, path: '/protected', concurrency, rampMs: 300, durationMs, keys, expected: [expected] };
  const { unexpected, example, timesMs, requests, seconds } = await load.ask(order);
  if (unexpected > 0) throw new Error(`${unexpected} wrong answers, as ${example}`);
  const times = timesMs.toSorted((a, b) => a - b);
  const percentile = (share: number): number => times[Math.ceil(times.length * share) - 1] ?? Number.NaN;
  return { rps: requests / seconds, p50Ms: percentile(0.5), p99Ms: percentile(0.99) };
}
