import fc, { type Arbitrary, type AsyncCommand, type RunDetails } from 'fast-check';
import { isCounted } from '../support/operations-log.js';
import type { Command } from './commands/command.js';
import { Operations } from './operations.js';
import { ReferenceModel } from './reference-model.js';
import { sweep } from './sweep.js';
import type { System } from './system.js';
import { World } from './world.js';

/** The longest life of a world; a random one is shorter. */
const MAX_COMMANDS = 50;

export interface Exploration {
  /** The title of its suite, by which one command runs it again. */
  readonly title: string;
  readonly seed: number;
  /** How many worlds begin anew. */
  readonly runs: number;
  /** Where a failure was, as its message says it: that one again, and nothing else. */
  readonly path?: string;
  readonly commands: Arbitrary<Command>[];
  readonly system: System;
  readonly makeModel?: () => ReferenceModel;
}

/** What was asked for in the environment: another seed, more runs, or one failure again. */
export function wanted(defaults: Pick<Exploration, 'seed' | 'runs'>): typeof defaults & { path?: string } {
  const { MODEL_SEED: seed, MODEL_RUNS: runs, MODEL_PATH: path } = process.env;
  return {
    seed: Number(seed ?? defaults.seed),
    runs: Number(runs ?? defaults.runs),
    ...(path === undefined ? {} : { path }),
  };
}

/** How long an exploration may go on; a failure that was not made as small as can be by then is told as it is. */
export const limitOf = (runs: number): number => 60_000 + runs * 3_000;

/** Runs random commands against the system and the model, and tells of the smallest list that parts them. */
export async function explore(exploration: Exploration): Promise<void> {
  const { title, seed, runs, commands, system, makeModel = () => new ReferenceModel() } = exploration;
  const [path, replayPath] = exploration.path?.split('@') ?? [];
  const operations = new Operations();
  const began = performance.now();
  const lists = fc.commands<ReferenceModel, World, false>(
    commands.map((arbitrary) => arbitrary.map((command) => operations.counted(command))),
    { maxCommands: MAX_COMMANDS, size: 'max', ...(replayPath ? { replayPath } : {}) },
  );
  const property = fc.asyncProperty(lists, async (list) => {
    const model = makeModel();
    const world = new World(system);
    try {
      await fc.asyncModelRun(() => ({ model, real: world }), list);
      await sweep(model, world);
    } catch (error) {
      operations.failed();
      throw error;
    } finally {
      if (!model.isCacheUp) await system.thawCache();
    }
  });
  const details = await fc.check(property, {
    seed,
    numRuns: runs,
    interruptAfterTimeLimit: limitOf(runs),
    ...(path ? { path } : {}),
    endOnFailure: Boolean(path) || isCounted,
  });
  const seconds = ((performance.now() - began) / 1_000).toFixed(1);
  if (details.failed) throw failureOf(title, details, operations);
  if (details.interrupted)
    throw new Error(`${title}: no more than ${details.numRuns} of ${runs} runs in ${seconds} s`);
  console.log(`${title}: seed ${seed}, ${details.numRuns} runs, ${String(operations)}, ${seconds} s`);
}

type Listed = AsyncCommand<ReferenceModel, World>;

/** What fast-check notes of each command: those after the failure were not run. */
const hasRun = (command: Listed): boolean => (command as unknown as { hasRan: boolean }).hasRan;

/** Says what to do to see it again, and the commands that are left. */
function failureOf(title: string, details: RunDetails<[Iterable<Listed>]>, operations: Operations): Error {
  const { seed, counterexamplePath, counterexample, numShrinks, errorInstance, interrupted } = details;
  const list = counterexample?.[0];
  const left = [...(list ?? [])].filter(hasRun).map(String);
  const replayPath = /replayPath="([^"]*)"/.exec(fc.stringify(list))?.[1] ?? '';
  const path = `${counterexamplePath ?? ''}@${replayPath}`;
  return new Error(
    [
      `${title}: the library and the model part after ${operations.untilFailure} operations (seed ${seed}), here made ` +
        `${left.length} in ${numShrinks} steps${interrupted ? ', for want of time not to the end' : ''}:`,
      ...left.map((command, index) => `  ${index + 1}. ${command}`),
      'Again:',
      `  MODEL_SEED=${seed} MODEL_PATH='${path}' npx vitest run --project e2e test/model-based.e2e-spec.ts -t '${title}'`,
      (errorInstance as Error).message,
    ].join('\n'),
    { cause: errorInstance },
  );
}
