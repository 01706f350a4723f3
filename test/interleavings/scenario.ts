import type { Ground } from './ground.js';
import type { Player } from './player.js';
import type { Turns } from './permutations.js';
import type { Grain } from './stepped-session.js';

/** One session of a scenario. */
export interface Part<Prepared> {
  /** How many turns of its are interleaved. It may need fewer, and then has nothing to do in the last ones; or more, after all others. */
  readonly turns: number;
  /** Default `'statement'`. */
  readonly grain?: Grain;
  /** Comes to a word or two about what became of it. */
  readonly play: (self: Player, prepared: Prepared) => Promise<string>;
}

/** Sessions on one key, what was before them, and what is to come out. */
export interface Scenario<Prepared = void> {
  readonly name: string;
  /** By letters, in the order of the permutations. */
  readonly parts: Readonly<Record<string, Part<Prepared>>>;
  /** What stands in the database, and in whose hands, before the first turn. */
  readonly prepare?: (cast: Readonly<Record<string, Player>>, ground: Ground) => Promise<Prepared>;
  /** A and B do the same: an order comes to what it comes to with their names exchanged, and half of them need not be played. */
  readonly isSymmetric?: boolean;
  /**
   * What an effect has to do with a completed record.
   *
   * - `with-record`: there is never one without the other, as in transaction mode.
   * - `before-record`: no completed record without its effect, as with a phase of lease mode.
   * - `none`: the scenario has none.
   */
  readonly effects: 'with-record' | 'before-record' | 'none';
}

export const turnsOf = ({ parts }: Pick<Scenario<never>, 'parts'>): Turns =>
  Object.fromEntries(Object.entries(parts).map(([name, { turns }]) => [name, turns]));

/** What is said of an order in which a session had a turn while it waited for a lock: there is no such order. */
export const INVALID = 'cannot be';

/** What came out: `A executed#1, B in-flight; completed#1, 1 effect`. */
export function outcomeOf(
  results: Readonly<Record<string, string>>,
  record: string,
  effects: number,
): string {
  const sessions = Object.entries(results).map(([name, result]) => `${name} ${result}`);
  return `${sessions.join(', ')}; ${record}, ${effects} effect${effects === 1 ? '' : 's'}`;
}
