import { IdempotencyConfigurationError } from '../errors/configuration.error.js';
import type { ModuleSettings } from '../resolve-options.js';
import { migrate, missingMigrations } from '../store/migrations/migrator.js';
import { checkServer, type ServerFacts } from '../store/server-check.js';
import { type ConnectionSource, openSession, type Session } from '../store/session.js';
import { type TableSpace, tableSpace } from '../store/table-space.js';

/** What the module says of the database to prepare. */
export type PreparationSettings = Pick<
  ModuleSettings,
  'acquireTimeoutMs' | 'table' | 'migrations' | 'replayCache'
>;

/** How long an answer may take; `undefined`: as long as it does. */
export interface PreparationTimeouts {
  readonly checkMs: number | undefined;
  readonly migrateMs: number | undefined;
}

/** What is known of a database that is ready. */
export interface PreparedDatabase extends ServerFacts {
  /** Read only where something is kept by it. */
  readonly space: TableSpace | undefined;
}

/**
 * Looks at the server and the tables, and applies the migrations as the options say.
 *
 * @throws {IdempotencyConfigurationError} for a database in which no execution is safe.
 */
export async function prepareDatabase(
  source: ConnectionSource,
  { acquireTimeoutMs, table, migrations, replayCache }: PreparationSettings,
  { checkMs, migrateMs }: PreparationTimeouts,
): Promise<PreparedDatabase> {
  return withSession(source, acquireTimeoutMs, async (session) => {
    const look = (): Promise<ServerFacts> => within(session, checkMs, checkServer(session, table));
    // Before the migrations too, which fail on a standby with an error that says less.
    refuseUnusable(await look());
    if (migrations === 'run') await within(session, migrateMs, migrate(session, table));
    if (migrations === 'check') {
      const missing = await within(session, checkMs, missingMigrations(session, table));
      if (missing.length > 0) {
        throw new IdempotencyConfigurationError({
          option: 'migrations',
          received: 'check',
          fix:
            `The database lacks ${missing.join(', ')}: apply the SQL of migrationSql('${table}'), or ` +
            "use migrations: 'run'.",
        });
      }
    }
    const facts = await look();
    refuseUnusable(facts);
    if (facts.missingTable !== undefined) {
      throw new IdempotencyConfigurationError({
        option: 'migrations',
        received: migrations,
        fix:
          `There is no table ${facts.missingTable} in the database: apply the SQL of migrationSql('${table}'), or use ` +
          "migrations: 'run'.",
      });
    }
    if (facts.isDirect) source.prepared?.turnOn();
    const space = replayCache && (await within(session, checkMs, tableSpace(session, table)));
    return { ...facts, space };
  });
}

function refuseUnusable({ unusable }: ServerFacts): void {
  if (!unusable) return;
  throw new IdempotencyConfigurationError({
    option: 'dataSource',
    received: unusable.found,
    fix: unusable.fix,
  });
}

function within<T>(session: Session, timeoutMs: number | undefined, work: Promise<T>): Promise<T> {
  return timeoutMs === undefined ? work : session.within(timeoutMs, work);
}

async function withSession<T>(
  source: ConnectionSource,
  timeoutMs: number,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const session = await openSession(source, timeoutMs);
  try {
    const result = await work(session);
    session.release();
    return result;
  } catch (error) {
    await session.rollbackAndRelease(timeoutMs);
    throw error;
  }
}
