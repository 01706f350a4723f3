import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { LongestFirst } from './test/support/longest-first.js';

const source = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const isCi = process.env['CI'] === 'true';

export default defineConfig({
  resolve: {
    // The package resolves to its source, so that no test runs against a stale build.
    alias: [
      { find: /^nestjs-pg-idempotency$/, replacement: source('./libs/idempotency/src/index.ts') },
      {
        find: /^nestjs-pg-idempotency\/memcached$/,
        replacement: source('./libs/idempotency/src/cache/memcached/index.ts'),
      },
      {
        find: /^nestjs-pg-idempotency\/testing$/,
        replacement: source('./libs/idempotency/src/testing/index.ts'),
      },
      {
        find: /^nestjs-pg-idempotency\/(memory|redis|memcached)$/,
        replacement: source('./libs/idempotency/src/cache/$1/index.ts'),
      },
    ],
  },
  test: {
    reporters: isCi ? ['default', 'json'] : ['default'],
    outputFile: { json: 'reports/tests.json' },
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['{libs,apps}/**/*.spec.ts', 'test/**/*.unit.spec.ts'],
          // Modules are loaded once, and not for each file: that takes longer than the tests.
          isolate: false,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: 'e2e',
          include: ['test/**/*.e2e-spec.ts'],
          // The contract once more, for the run that tries mutants.
          exclude: ['test/mutation/**'],
          globalSetup: ['test/support/global-setup.ts'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          isolate: false,
          maxWorkers: 3,
          sequence: { groupOrder: 1 },
        },
      },
    ],
    coverage: {
      enabled: isCi,
      provider: 'v8',
      include: ['libs/idempotency/src/**/*.ts'],
      // The CLI runs as a process of its own; the tests that start it do not measure it.
      exclude: ['**/*.spec.ts', '**/index.ts', 'libs/idempotency/src/cli.ts'],
      reporter: ['text', 'text-summary'],
      thresholds: { branches: 90, lines: 90 },
    },
  },
});
