import { type RunnerTask, afterAll, beforeAll } from 'vitest';

/** What instrumented code counts: how often each mutant was passed, by whatever test, or outside of one. */
interface Coverage {
  readonly static: Record<string, number>;
  readonly perTest: Record<string, Record<string, number>>;
}

const coverage = (): Coverage | undefined =>
  (globalThis as { __stryker__?: { mutantCoverage?: Coverage } }).__stryker__?.mutantCoverage;

/**
 * Most of what the library does at its start it does in `beforeAll`. Stryker takes that for code that runs when a module is
 * loaded, and would run every test there is for each mutant in it. Only the tests of this file depend on its hooks.
 */
let loaded: ReadonlySet<string>;
beforeAll(() => {
  loaded = new Set(Object.keys(coverage()?.static ?? {}));
});
// eslint-disable-next-line no-empty-pattern -- vitest takes nothing else
afterAll(({}, file) => {
  const counted = coverage();
  if (!counted) return;
  const tests = testsOf(file.tasks);
  for (const [mutant, count] of Object.entries(counted.static)) {
    if (loaded.has(mutant) || tests.length === 0) continue;
    delete counted.static[mutant];
    for (const test of tests) {
      const own = (counted.perTest[idOf(test)] ??= {});
      own[mutant] = (own[mutant] ?? 0) + count;
    }
  }
});

function testsOf(tasks: readonly RunnerTask[]): RunnerTask[] {
  return tasks.flatMap((task) => {
    if (task.type === 'suite') return testsOf(task.tasks);
    return task.mode === 'run' || task.mode === 'queued' ? [task] : [];
  });
}

/** As Stryker names a test. */
function idOf(test: RunnerTask): string {
  const names = [test.name];
  for (let { suite } = test; suite; { suite } = suite) names.unshift(suite.name);
  return `${test.file.filepath}#${names.join(' ').trim()}`;
}
