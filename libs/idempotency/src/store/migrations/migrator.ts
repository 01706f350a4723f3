import type { Session } from '../session.js';
import { quoteTable } from '../table-name.js';
import { MIGRATIONS } from './index.js';

const historyTable = (table: string): string => quoteTable(`${table}_migrations`);

const CREATE_HISTORY = (table: string): string => `
CREATE TABLE IF NOT EXISTS ${historyTable(table)} (
  name       text        NOT NULL CONSTRAINT "${table.split('.').at(-1)}_migrations_pkey" PRIMARY KEY,
  applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)`;

/** One migrator per table at a time, over all instances; the lock ends with the transaction. */
const ONE_AT_A_TIME = `SELECT pg_advisory_xact_lock(hashtextextended($1::text, 0))`;

const HISTORY_EXISTS = `SELECT to_regclass($1::text) IS NOT NULL AS found`;

/**
 * Applies the missing steps in one transaction: any number of instances may call it at once, all but one find nothing
 * left to do, and a crash leaves nothing half done. Resolves with the names of the steps it applied.
 */
export async function migrate(session: Session, table: string): Promise<string[]> {
  await session.query({ text: 'BEGIN ISOLATION LEVEL READ COMMITTED' });
  await session.query({ text: ONE_AT_A_TIME, values: [`nestjs-pg-idempotency:${table}`] });
  const missing = await missingMigrations(session, table);
  if (missing.length > 0) {
    await session.query({ text: CREATE_HISTORY(table) });
    for (const migration of MIGRATIONS.filter(({ name }) => missing.includes(name))) {
      for (const text of migration.up(table)) await session.query({ text });
      await session.query({
        text: `INSERT INTO ${historyTable(table)} (name) VALUES ($1)`,
        values: [migration.name],
      });
    }
  }
  await session.query({ text: 'COMMIT' });
  return missing;
}

/** Names of the steps that the database has not seen, oldest first. */
export async function missingMigrations(session: Session, table: string): Promise<string[]> {
  const { rows } = await session.query<{ found: boolean }>({
    text: HISTORY_EXISTS,
    values: [historyTable(table)],
  });
  if (rows[0]?.found !== true) return MIGRATIONS.map(({ name }) => name);
  const applied = await session.query<{ name: string }>({ text: `SELECT name FROM ${historyTable(table)}` });
  const seen = new Set(applied.rows.map(({ name }) => name));
  return MIGRATIONS.map(({ name }) => name).filter((name) => !seen.has(name));
}

/**
 * The whole schema as SQL, for a team that applies it with a tool of its own (then set `migrations: 'check'`).
 *
 * @param table the `table` option of the module. Default `'idempotency_keys'`.
 */
export function migrationSql(table = 'idempotency_keys'): string {
  const history = MIGRATIONS.map(
    ({ name }) => `INSERT INTO ${historyTable(table)} (name) VALUES ('${name}')`,
  );
  const statements = [
    CREATE_HISTORY(table),
    ...MIGRATIONS.flatMap((migration) => migration.up(table)),
    ...history,
  ];
  return ['BEGIN', ...statements.map((statement) => statement.trim()), 'COMMIT']
    .map((text) => `${text};\n`)
    .join('\n');
}
