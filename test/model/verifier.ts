import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Limit } from '../../libs/idempotency/src/background/limit.js';
import { serverPath } from '../support/servers.js';

const run = promisify(execFile);

/** A file of this folder, without its ending. */
export type Model = 'transaction' | 'lease';

/** What spin came to. */
export interface Verdict {
  /** Every state was looked at, and none was taken for another one. */
  readonly complete: boolean;
  readonly errors: number;
  readonly states: number;
  /** Statements of the model that no history comes to. */
  readonly unreached: readonly string[];
  /** What was violated first, and after how many steps. */
  readonly violation: { readonly what: string; readonly steps: number } | undefined;
  /** All that was printed. */
  readonly output: string;
}

/** What may happen in one history. */
export interface Bounds {
  /** Two callers and the one at the end, instead of three. */
  readonly pair?: boolean;
  /** How many things go wrong. */
  readonly faults: number;
  /** How often the time of a record is over. */
  readonly expiries: number;
  /** How often a caller that got no final answer asks again. */
  readonly retries?: number;
}

/** A bug, as `#ifdef MUTANT_…` in a model, the property that it breaks, and what has to happen for that. */
export interface Mutant {
  readonly model: Model;
  readonly mutant: string;
  readonly bug: string;
  readonly property: string;
  readonly bounds: Bounds;
}

const MEMORY_MB = 1_000;
/** The longest history has some hundreds of steps; one that is longer would be told of. */
const DEPTH = 20_000;
/** The hash table's size, as a power of two. */
const HASH_BITS = 21;
/** Breadth first: the first history found that breaks the property is the shortest. It takes less time than to optimise. */
const SHORTEST = ['-O0', '-DBFS'];

/** The end of a process that has none: of the database and of time. */
const ENDLESS = '"-end-"';

/** A step as spin prints it: its number, the process, the place in the model, and the statement. */
const STEP = /^\s*(\d+):\s+proc\s+(\d+) \(:?(\w+)[^)]*\) \S*\/([\w.]+:\d+) \(state \d+\)\s+\[(.*)\]$/gm;
const NOTHING_HAPPENS = /^(sub-sequence|IF|DO|else|\.\(goto\)|\(1\)|goto .*)$/;

/** Statements are not merged: what is not reached can be told. */
const KEEP_STATEMENTS = '-o3';

const verifications = new Limit(availableParallelism());

/** Looks at every history within the bounds. */
export function verify(model: Model, bounds: Bounds): Promise<Verdict> {
  return inFolder((folder) => search(folder, model, within(bounds), ['-O1', '-DCOLLAPSE']));
}

/** Looks for the shortest history of a model with a bug in it that breaks the property, and at no other property. */
export function refute(mutant: Mutant): Promise<Verdict> {
  return inFolder((folder) => search(folder, mutant.model, planted(mutant), SHORTEST));
}

/** The history that {@link refute} finds, step by step. */
export function counterExample(mutant: Mutant): Promise<string> {
  return inFolder(async (folder) => {
    await search(folder, mutant.model, planted(mutant), SHORTEST);
    const trail = join(folder, `${mutant.model}.pml.trail`);
    const steps = await spin(folder, [...planted(mutant), '-p', '-k', trail, sourceOf(mutant.model)]);
    return [...steps.matchAll(STEP)]
      .filter(([, , , , , what = '']) => !NOTHING_HAPPENS.test(what))
      .map(([, step, number, name, place, what]) => `${step} ${name} ${number} ${place} ${what}`)
      .join('\n');
  });
}

function planted({ mutant, property, bounds }: Mutant): string[] {
  return [`-DMUTANT_${mutant}`, '-DONLY', `-DCHECK_${property}`, ...within(bounds)];
}

function within({ pair = false, faults, expiries, retries = 0 }: Bounds): string[] {
  const counts = [`-DFAULTS=${faults}`, `-DEXPIRIES=${expiries}`, `-DRETRIES=${retries}`];
  return pair ? ['-DPAIR', ...counts] : counts;
}

async function search(
  folder: string,
  model: Model,
  defines: readonly string[],
  compile: readonly string[],
): Promise<Verdict> {
  await spin(folder, [...defines, '-a', sourceOf(model)]);
  const flags = ['-w', '-DSAFETY', `-DMEMLIM=${MEMORY_MB}`, ...compile];
  await run(serverPath('gcc'), [...flags, '-o', 'pan', 'pan.c'], { cwd: folder });
  const { stdout } = await run(join(folder, 'pan'), [`-m${DEPTH}`, `-w${HASH_BITS}`], { cwd: folder });
  return read(stdout);
}

async function spin(folder: string, args: readonly string[]): Promise<string> {
  return (
    await run(serverPath('spin'), [KEEP_STATEMENTS, ...args], { cwd: folder, maxBuffer: 64 * 1024 * 1024 })
  ).stdout;
}

function read(output: string): Verdict {
  const count = (pattern: RegExp): number => Number(pattern.exec(output)?.[1] ?? NaN);
  const [, what, steps] = /^pan:1: (.*) \(at depth (\d+)\)$/m.exec(output) ?? [];
  return {
    complete:
      /^Full statespace search for:$/m.test(output) &&
      !/search not completed|max search depth too small|out of memory|hash conflict.*lost/i.test(output),
    errors: count(/errors: (\d+)$/m),
    states: count(/^\s*(\d+) states, stored/m),
    unreached: [...output.matchAll(/^\t\S+\/(\w+\.pml:\d+), state \d+, (".*")$/gm)]
      .map(([, place, text]) => `${place} ${text}`)
      .filter((statement) => !statement.endsWith(ENDLESS)),
    violation: what === undefined ? undefined : { what, steps: Number(steps) },
    output,
  };
}

function sourceOf(model: Model): string {
  return fileURLToPath(new URL(`${model}.pml`, import.meta.url));
}

/** In a folder that goes with it. */
function inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  return verifications.run(async () => {
    const folder = await mkdtemp(join(tmpdir(), 'idempotency-model-'));
    try {
      return await work(folder);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
}
