import type { Caller } from '../clients/caller.js';
import type { HistoryLog } from '../clients/history-log.js';
import type { Traffic } from '../clients/traffic.js';
import type { Random } from '../random.js';
import type { World } from '../world/world.js';
import type { Lending } from './lending.js';
import type { Tally } from './tally.js';

/** What every hand of the monkey works with. */
export interface Workshop {
  readonly world: World;
  readonly traffic: Traffic;
  readonly caller: Caller;
  readonly log: HistoryLog;
  readonly tally: Tally;
  readonly lending: Lending;
}

/** Breaks one kind of thing, again and again. */
export interface Hand {
  readonly name: string;
  /** Breaks it once, and resolves when it is whole again, or is left to others to mend. */
  strike(workshop: Workshop, random: Random): Promise<void>;
  /** Lets go of what it holds to strike with. */
  close?(): Promise<void>;
}

/** Writes down what was broken, and for how long. */
export async function during<T>(
  log: HistoryLog,
  name: string,
  target: string,
  work: () => Promise<T>,
): Promise<T> {
  const atMs = log.nowMs;
  try {
    return await work();
  } finally {
    log.tell({ kind: 'fault', atMs, untilMs: log.nowMs, name, target });
  }
}
