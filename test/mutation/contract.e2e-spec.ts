import { storeContract } from 'nestjs-pg-idempotency/testing';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { createDatabase, type TestDatabase } from '../support/database.js';

// As in test/store-contract.e2e-spec.ts, without the stores that have bugs: a mutant is a bug itself.
let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.drop());

describe.each([{ pipeline: true }, { pipeline: false }])(
  'the contract of the store (pipeline: $pipeline)',
  ({ pipeline }) => {
    const cases = storeContract({
      database: () => ({ connectionString: database.url, pipeline }),
      table: pipeline ? 'pipelined_keys' : 'plain_keys',
    });
    for (const { name, run } of cases) it(name, run);
  },
);
