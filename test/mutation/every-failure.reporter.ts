import type { RunnerTestFile, RunnerTask, SerializedError } from 'vitest';
import type { Reporter, TestModule } from 'vitest/node';

/**
 * Stryker looks at tests alone. A file that cannot be loaded, a hook that fails and an error that nobody handles fail a run of
 * vitest too: here each of them is a test that has failed.
 */
export class EveryFailure implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    const files = modules.map((module) => (module as unknown as { task: RunnerTestFile }).task);
    for (const file of files) {
      const failed = [file, ...suitesOf(file.tasks)].filter(
        ({ result }) => (result?.errors ?? []).length > 0,
      );
      for (const { name, result } of failed) addFailure(file, `${name} is set up`, result?.errors?.[0]);
    }
    const [first] = files;
    if (first && unhandled.length > 0) addFailure(first, 'every error is handled', unhandled[0]);
  }
}

function suitesOf(tasks: readonly RunnerTask[]): RunnerTask[] {
  return tasks.flatMap((task) => (task.type === 'suite' ? [task, ...suitesOf(task.tasks)] : []));
}

function addFailure(file: RunnerTestFile, name: string, error: unknown): void {
  const failure = { type: 'test', id: `${file.id}_${name}`, name, file, meta: {}, mode: 'run', tasks: [] };
  file.tasks.push({ ...failure, result: { state: 'fail', errors: [error] } } as unknown as RunnerTask);
}
