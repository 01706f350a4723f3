// `npm run mutation`: see CONTRIBUTING.md.

/** @type {import('@stryker-mutator/api/core').PartialStrykerOptions} */
export default {
  testRunner: 'vitest',
  plugins: ['@stryker-mutator/vitest-runner'],
  vitest: { configFile: 'test/mutation/vitest.config.ts', related: false },
  mutate: [
    'libs/idempotency/src/{engine,store}/**/*.ts',
    '!libs/idempotency/src/store/migrations/**',
    '!**/*.spec.ts',
    '!**/index.ts',
  ],
  coverageAnalysis: 'perTest',
  incremental: true,
  incrementalFile: 'reports/mutation/incremental.json',
  reporters: ['clear-text', 'progress', 'html', 'json'],
  clearTextReporter: { allowColor: false, logTests: false, reportTests: false, skipFull: true },
  htmlReporter: { fileName: 'reports/mutation/index.html' },
  jsonReporter: { fileName: 'reports/mutation/mutation.json' },
  concurrency: 2,
  // A test that hangs fails after its own 5 s; this ends what blocks the event loop.
  timeoutMS: 10_000,
  timeoutFactor: 1.5,
  tempDirName: '.stryker-tmp',
  ignorePatterns: ['dist', '**/dist', 'coverage', 'reports', '.data', 'bench/peers', '.ci'],
  thresholds: { high: 95, low: 90, break: 90 },
};
