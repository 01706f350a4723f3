import { IdempotencyConfigurationError } from '../../errors/configuration.error.js';
import { isTableName } from '../../store/table-name.js';
import type { ContractCase, StoreContractOptions } from '../store-contract.js';
import { claims } from './cases/claims.js';
import { journal } from './cases/journal.js';
import { leases } from './cases/leases.js';
import { leaseLife } from './cases/lease-life.js';
import { outcomes } from './cases/outcomes.js';
import { payloads } from './cases/payloads.js';
import { retries } from './cases/retries.js';
import { stale } from './cases/stale.js';
import { surroundings } from './cases/surroundings.js';
import { time } from './cases/time.js';
import type { CaseDefinition } from './case-definition.js';
import { type ContractDatabase, connectTo, prepare } from './contract-database.js';
import type { MakeStores } from './contract-stores.js';
import { atOnce } from './expectations.js';
import { Stage } from './stage.js';

/** One that takes longer has found two that wait for each other. */
const CASE_TIMEOUT_MS = 20_000;

const DEFINITIONS: readonly CaseDefinition[] = [
  ...claims,
  ...payloads,
  ...retries,
  ...outcomes,
  ...stale,
  ...time,
  ...leases,
  ...leaseLife,
  ...journal,
  ...surroundings,
];

/** The contract, to be tried on what `makeStores` makes. */
export function contractOf(options: StoreContractOptions, makeStores: MakeStores): readonly ContractCase[] {
  const { table = 'idempotency_keys', migrations = 'run' } = options;
  if (!isTableName(table)) {
    throw new IdempotencyConfigurationError({
      option: 'table',
      received: table,
      fix: 'Use a name, or schema.name, of at most 40 letters, digits and _ each.',
    });
  }
  // Once for all cases: the first that runs prepares the database for the others.
  const prepared = once(async () => {
    const database = await databaseOf(options);
    return { database, facts: await prepare(database, { table, migrations }) };
  });
  return DEFINITIONS.map(({ name, prove }) => ({
    name,
    run: async () => {
      const { database, facts } = await prepared();
      const { source, close } = connectTo(database);
      if (facts.isDirect) source.prepared?.turnOn();
      const stores = makeStores({ table, source, serverVersion: facts.version });
      const stage = new Stage({ stores, source, table, isDirect: facts.isDirect });
      const failures = await failuresOf(
        () => atOnce('all of it', prove(stage), CASE_TIMEOUT_MS),
        () => stage.clear(),
        () => close(),
      );
      if (failures.length > 0) throw failures[0];
    },
  }));
}

async function databaseOf({ database }: StoreContractOptions): Promise<ContractDatabase> {
  return typeof database === 'function' ? database() : database;
}

/** Does all of it, one after the other, and tells the first failure first. */
async function failuresOf(...steps: readonly (() => Promise<void>)[]): Promise<unknown[]> {
  const failures: unknown[] = [];
  for (const step of steps) await step().catch((error: unknown) => failures.push(error));
  return failures;
}

function once<T>(work: () => Promise<T>): () => Promise<T> {
  let working: Promise<T> | undefined;
  return () => (working ??= work());
}
