import { parseArgs } from 'node:util';
import type { Rates } from './monkey/monkey.js';

/** What a run is to do. */
export interface Plan {
  readonly seed: number;
  readonly isGate: boolean;
  /** How long things are broken. */
  readonly faultsMs: number;
  /** Traffic alone, before the first fault: what the rest is compared with. */
  readonly baselineMs: number;
  readonly clients: number;
  readonly pace: number;
  readonly rates: Rates;
  /** What must have been done when the run is over; a run that did less has shown less, and fails. */
  readonly least: Least;
  /** The folder of the history and the report. */
  readonly folder: string;
}

export interface Least {
  readonly kills: number;
  readonly zombies: number;
  readonly lostCommits: number;
  readonly crashes: number;
  readonly terminated: number;
  readonly requests: number;
}

export const USAGE = `npm run chaos -- [--minutes N | --gate] [--seed S] [--folder FOLDER]

  --minutes N  how long things are broken (default 2)
  --seed S     the decisions of clients and faults (default: from the clock; it is printed)
  --gate       the form of CI: more faults in less time, with the least of each that must have happened
  --folder     where the history and the report go (default reports/chaos)`;

/** Of an hour: faults have time to show what comes of them, and most requests meet none. */
const CALM: Rates = {
  kill: 12,
  freeze: 4,
  'lost COMMIT': 12,
  terminate: 6,
  crash: 0.5,
  network: 6,
  cache: 3,
};

const NOTHING: Least = { kills: 0, zombies: 0, lostCommits: 0, crashes: 0, terminated: 0, requests: 1 };

/** @throws on an argument that it does not know. */
export function planOf(argv: readonly string[]): Plan {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      minutes: { type: 'string' },
      seed: { type: 'string', default: String(Date.now() % 1_000_000_007) },
      gate: { type: 'boolean', default: false },
      folder: { type: 'string', default: 'reports/chaos' },
    },
  });
  const seed = Number(values.seed);
  const minutes = Number(values.minutes ?? 2);
  if (!Number.isInteger(seed) || seed < 0) throw new Error(`--seed is ${values.seed}: a whole number from 0`);
  if (!(minutes > 0)) throw new Error(`--minutes is ${values.minutes}: a number over 0`);
  const { folder } = values;
  if (values.gate && values.minutes !== undefined)
    throw new Error('--gate has its own time: leave --minutes out');
  if (values.gate) return { seed, folder, ...GATE };
  return {
    seed,
    folder,
    isGate: false,
    faultsMs: minutes * 60_000,
    baselineMs: 10_000,
    clients: 12,
    pace: 20,
    rates: CALM,
    least: NOTHING,
  };
}

/** All that must have happened in CI, within four minutes. */
const GATE: Omit<Plan, 'seed' | 'folder'> = {
  isGate: true,
  faultsMs: 170_000,
  baselineMs: 5_000,
  clients: 24,
  pace: 40,
  rates: { kill: 130, freeze: 24, 'lost COMMIT': 100, terminate: 100, crash: 2, network: 10, cache: 6 },
  least: { kills: 300, zombies: 50, lostCommits: 200, crashes: 5, terminated: 1_000, requests: 50_000 },
};
