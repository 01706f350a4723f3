import { fileURLToPath } from 'node:url';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { defineConfig } from 'vitest/config';
import base from '../../vitest.config.js';
import { EveryFailure } from './every-failure.reporter.js';
import { E2E_SPECS, UNIT_SPECS } from './specs.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** In the order of the list: a mutant is dead at the first test that fails, and the fast ones are asked first. */
class InOrder extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification): number =>
      E2E_SPECS.findIndex((spec) => moduleId.endsWith(spec));
    return files.toSorted((one, other) => place(one) - place(other));
  }
}

/** The tests that judge mutants: one project, without what starts processes or waits for long. */
export default defineConfig({
  root,
  resolve: base.resolve,
  test: {
    include: [...UNIT_SPECS, ...E2E_SPECS],
    globalSetup: ['test/mutation/global-setup.ts'],
    setupFiles: ['test/mutation/coverage-of-hooks.ts'],
    // What takes longer hangs: most of what a mutant of a wait does.
    testTimeout: 5_000,
    hookTimeout: 10_000,
    reporters: [new EveryFailure()],
    sequence: { sequencer: InOrder },
  },
});
