/** Beside the code, and the fastest of all. */
export const UNIT_SPECS = ['libs/idempotency/src/{engine,store}/**/*.spec.ts'];

/** On PostgreSQL, in this process, the fastest first. */
export const E2E_SPECS = [
  'test/record-entity.e2e-spec.ts',
  'test/mutation/contract.e2e-spec.ts',
  'test/store.e2e-spec.ts',
  'test/batch.e2e-spec.ts',
  'test/lease-store.e2e-spec.ts',
  'test/admin.e2e-spec.ts',
  'test/outcomes.e2e-spec.ts',
  'test/waiting.e2e-spec.ts',
  'test/steps.e2e-spec.ts',
  'test/after-commit.e2e-spec.ts',
  'test/events.e2e-spec.ts',
  'test/engines.e2e-spec.ts',
  'test/completer.e2e-spec.ts',
  'test/reaper.e2e-spec.ts',
  'test/startup-migrations.e2e-spec.ts',
  'test/startup-options.e2e-spec.ts',
  'test/startup-data-source.e2e-spec.ts',
];
