import { parseArgs } from 'node:util';
import type { Rates } from './monkey/monkey.js';

/** What a run is to do. */
export interface Plan {
  readonly seed: number;
  readonly form: 'calm' | 'fierce' | 'gate';
  /** How long things are broken; in the form of CI at most, until what it has to show has happened. */
  readonly faultsMs: number;
  /** Traffic that nothing is compared with: processes that are young are slow. */
  readonly warmUpMs: number;
  /** Traffic alone, before the first fault: what the rest is compared with. */
  readonly baselineMs: number;
  readonly clients: number;
  /** Requests that each client sends in a second at most. */
  readonly pace: number;
  /** Milliseconds between two requests to the route that nothing protects. */
  readonly passByEveryMs: number;
  /** How often a client asks again at most when it has its answer. */
  readonly duplicates: number;
  readonly tellEveryMs: number;
  readonly rates: Rates;
  /** Whether a process that dies is followed by one that has been loaded before. */
  readonly hasStandbys: boolean;
  /** What must have been done when the run is over; a run that did less has shown less, and fails. */
  readonly least: Least;
  /** The folder of the history and the report. */
  readonly folder: string;
}

export interface Least {
  /** With a request at a failpoint, or from outside. */
  readonly kills: number;
  readonly killsAtEach: number;
  readonly zombies: number;
  readonly lostCommits: number;
  readonly crashes: number;
  readonly terminated: number;
  /** Of protected routes, each of which the checker has looked at. */
  readonly requests: number;
}

export const USAGE = `npm run chaos -- [--minutes N [--fierce] | --gate] [--seed S] [--folder FOLDER]

  --minutes N  how long things are broken (default 2)
  --seed S     the decisions of clients and faults (default: from the clock; it is printed)
  --fierce     faults as often as in the form of CI
  --gate       the form of CI: more faults in less time, with the least of each that must have happened
  --folder     where the history and the report go (default reports/chaos)`;

/** Of an hour: faults have time to show what comes of them, and most requests meet none. */
const CALM: Rates = {
  kill: 16,
  freeze: 4,
  'lost COMMIT': 12,
  terminate: 6,
  crash: 0.5,
  network: 6,
  cache: 3,
};

const NOTHING: Least = {
  kills: 0,
  killsAtEach: 0,
  zombies: 0,
  lostCommits: 0,
  crashes: 0,
  terminated: 0,
  requests: 1,
};

/** @throws on an argument that it does not know. */
export function planOf(argv: readonly string[]): Plan {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      minutes: { type: 'string' },
      seed: { type: 'string', default: String(Date.now() % 1_000_000_007) },
      fierce: { type: 'boolean', default: false },
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
  const faultsMs = minutes * 60_000;
  if (values.gate) return { seed, folder, ...GATE };
  if (values.fierce) return { seed, folder, ...GATE, ...FIERCE, faultsMs };
  return {
    seed,
    folder,
    form: 'calm',
    faultsMs,
    warmUpMs: 5_000,
    baselineMs: minutes < 10 ? 10_000 : 60_000,
    clients: 12,
    pace: 20,
    passByEveryMs: 20,
    duplicates: 4,
    tellEveryMs: minutes < 10 ? 5_000 : 60_000,
    rates: CALM,
    hasStandbys: false,
    least: NOTHING,
  };
}

/** Faults as in CI, and more requests among them: it has its time, not a number of kills to come to. */
const FIERCE = { form: 'fierce', pace: 3.5, passByEveryMs: 100, least: NOTHING } as const;

/** All that must have happened in CI. */
const GATE: Omit<Plan, 'seed' | 'folder'> = {
  form: 'gate',
  // At the latest: it ends as soon as all of it has happened. A machine that is slow needs longer for it, and has not failed.
  faultsMs: 420_000,
  warmUpMs: 3_000,
  baselineMs: 3_000,
  // As few as keep every instance at work: what they ask of processes that have just started is the processor time of the next kill.
  clients: 12,
  pace: 1.2,
  passByEveryMs: 400,
  duplicates: 8,
  tellEveryMs: 15_000,
  rates: { kill: 180, freeze: 21, 'lost COMMIT': 105, terminate: 190, crash: 1.8, network: 6, cache: 5 },
  // A kill waits for little else than the processor then.
  hasStandbys: true,
  least: {
    kills: 300,
    killsAtEach: 10,
    zombies: 50,
    lostCommits: 200,
    crashes: 5,
    terminated: 1_000,
    requests: 50_000,
  },
};
