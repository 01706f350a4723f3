import type { Configuration } from '../configuration.js';
import { type Cost, count } from './count.js';

/** What protection adds to a first execution, and what each way of answering costs. */
export interface Counters {
  readonly roundTripsAdded: number;
  readonly synchronousFlushesAdded: number;
  readonly statementsAdded: number;
  readonly walBytesAdded: number;
  readonly allocatedBytesAdded: number;
  readonly costs: Readonly<Record<string, Cost>>;
}

/** Counts on the first of the platforms that are measured. */
export async function countersOf(
  databaseUrl: string,
  { platforms: [platform = 'express'], pipeline }: Configuration,
): Promise<Counters> {
  const options = { databaseUrl, platform, pipeline };
  const plain = await count('plain', options);
  const first = await count('first execution', options);
  return {
    roundTripsAdded: first.roundTrips - plain.roundTrips,
    synchronousFlushesAdded: first.synchronousFlushes - plain.synchronousFlushes,
    statementsAdded: first.statements - plain.statements,
    walBytesAdded: first.walBytes - plain.walBytes,
    allocatedBytesAdded: first.allocatedBytes - plain.allocatedBytes,
    costs: {
      plain,
      'first execution': first,
      replay: await count('replay', options),
      'first replay': await count('first replay', options),
      'cached replay': await count('cached replay', options),
      'duplicate in flight': await count('duplicate in flight', options),
    },
  };
}
