import type { Caller } from '../clients/caller.js';
import type { HistoryLog } from '../clients/history-log.js';
import type { Traffic } from '../clients/traffic.js';
import type { Random } from '../random.js';
import type { World } from '../world/world.js';
import type { Tally } from './tally.js';

/** What every hand of the monkey works with. */
export interface Workshop {
  readonly world: World;
  readonly traffic: Traffic;
  readonly caller: Caller;
  readonly log: HistoryLog;
  readonly tally: Tally;
  /** Instances that something is being done to: one thing at a time for each. */
  readonly taken: Set<number>;
}

/** Breaks one kind of thing, again and again. */
export interface Hand {
  readonly name: string;
  /** Breaks it once, and resolves when it is whole again, or is left to others to mend. */
  strike(workshop: Workshop, random: Random): Promise<void>;
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

/** Never killed and never frozen: what it holds after an hour tells of leaks. Everything else befalls it as it does the others. */
export const SPARED = 3;

/** Takes an instance that is up and whole, while `work` goes on; does nothing when there is none. */
export async function withInstance(
  { world, taken }: Workshop,
  random: Random,
  work: (instance: World['instances'][number]) => Promise<void>,
): Promise<void> {
  const free = world.instances.filter(({ index, isUp }) => isUp && index !== SPARED && !taken.has(index));
  if (free.length === 0) return;
  const instance = random.pick(free);
  taken.add(instance.index);
  try {
    await work(instance);
  } finally {
    taken.delete(instance.index);
  }
}
