import type { Ground } from './ground.js';
import { interleave, type Run, type Standing } from './interleave.js';
import { permutationsOf, sampleOf } from './permutations.js';
import { INVALID, type Scenario, turnsOf } from './scenario.js';
import { countFailure, countOperation } from '../support/operations-log.js';

/** What a permutation of a scenario comes to; `undefined`: the order alone does not tell. Then the invariants are all that is asked. */
export type Expected = (permutation: string) => string | undefined;

export interface Mismatch {
  readonly permutation: string;
  readonly expected: string | undefined;
  readonly found: string;
  readonly violations: readonly string[];
}

export interface Exploration {
  readonly name: string;
  /** All that were looked at. */
  readonly permutations: number;
  /** Those of them that the database has played. */
  readonly played: number;
  /** Those that are a played one with the names of A and B exchanged. */
  readonly mirrored: number;
  /** Those that differ from a played one only by turns of sessions that had nothing left to do, or that begin as one that cannot be. */
  readonly known: number;
  /** Those in which a session had a turn while it waited for a lock. */
  readonly invalid: number;
  readonly seconds: number;
  /** How often a statement was refused because of another transaction. */
  readonly conflicts: number;
  readonly mismatches: readonly Mismatch[];
  /** By permutation, where it was asked for. */
  readonly table: Readonly<Record<string, string>>;
}

export interface ExploreOptions {
  /** Only so many permutations, chosen by the seed. */
  readonly sample?: { readonly size: number; readonly seed: number } | undefined;
  /** Ends with the first one that is not as expected, and like this. */
  readonly until?: (mismatch: Mismatch) => boolean;
  readonly keepTable?: boolean;
}

/** Plays the permutations of a scenario, and compares each with what is expected of it. */
export async function explore<Prepared>(
  ground: Ground,
  scenario: Scenario<Prepared>,
  expected: Expected,
  { sample, until, keepTable = false }: ExploreOptions = {},
): Promise<Exploration> {
  const startedAt = performance.now();
  const turns = turnsOf(scenario);
  const permutations = sample ? sampleOf(turns, sample.size, sample.seed) : permutationsOf(turns);
  const atlas = new Atlas();
  const mismatches: Mismatch[] = [];
  const table: Record<string, string> = {};
  const count = { permutations: 0, mirrored: 0, played: 0, invalid: 0, conflicts: 0 };

  for (const permutation of permutations) {
    count.permutations++;
    if (scenario.isSymmetric && permutation.startsWith('B')) {
      count.mirrored++;
      continue;
    }
    let known = atlas.find(permutation);
    if (!known) {
      count.played++;
      countOperation();
      const run = await interleave(ground, scenario, permutation).catch((error: unknown) => {
        countFailure();
        throw error;
      });
      count.conflicts += run.conflicts;
      atlas.add(run);
      known = run;
    }
    const { outcome: found, violations } = known;
    if (found === INVALID) count.invalid++;
    if (keepTable) table[permutation] = found;
    const wanted = expected(permutation);
    if ((wanted !== undefined && wanted !== found) || violations.length > 0) {
      const mismatch = { permutation, expected: wanted, found, violations };
      mismatches.push(mismatch);
      countFailure();
      if (until?.(mismatch)) break;
    }
  }
  return {
    name: scenario.name,
    ...count,
    known: count.permutations - count.played - count.mirrored,
    seconds: (performance.now() - startedAt) / 1000,
    mismatches,
    table,
  };
}

/**
 * What is known of the orders from those that were played. Each turn is awaited, so that the same turns always come to the same: a turn of
 * a session that has come to its end changes nothing, and one that cannot be had here can be had in no order that begins like this.
 */
class Atlas {
  readonly #standings = new Map<string, Standing>();
  readonly #runs = new Map<string, Pick<Run, 'outcome' | 'violations'>>();

  add(run: Run): void {
    for (const standing of run.standings) this.#standings.set(standing.schedule, standing);
    if (run.outcome !== INVALID) this.#runs.set(run.schedule, run);
  }

  find(permutation: string): Pick<Run, 'outcome' | 'violations'> | undefined {
    let schedule = '';
    for (const name of permutation) {
      const standing = this.#standings.get(schedule);
      if (!standing) return undefined;
      if (standing.done.has(name)) continue;
      if (standing.blocked.has(name)) return { outcome: INVALID, violations: [] };
      schedule += name;
    }
    return this.#runs.get(schedule);
  }
}

/** A line for whoever reads the run. */
export function describeExploration(level: string, found: Exploration): string {
  const { name, permutations, played, known, mirrored, invalid, conflicts, seconds } = found;
  return `${level}: ${name}: ${permutations} permutations (${played} played, ${known} known from those, ${mirrored} by symmetry), ${invalid} of them cannot be, ${conflicts} conflicts, ${seconds.toFixed(1)} s`;
}
