import type { FactoryProvider } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import { IdempotencyEngine } from './engine/idempotency.engine.js';
import { IdempotencyConfigurationError } from './errors/configuration.error.js';
import { IdempotencyEvents } from './events/idempotency-events.js';
import { RequestIdentityReader } from './http/request-identity.js';
import { IDEMPOTENCY_DATA_SOURCE, MODULE_OPTIONS_TOKEN } from './idempotency.module-definition.js';
import type { IdempotencyModuleOptions } from './idempotency.options.js';
import { IDEMPOTENCY_RUNTIME, type IdempotencyRuntime } from './idempotency.runtime.js';
import { ExpiredRecordReaper } from './reaper/expired-record.reaper.js';
import { checkNames, type ModuleSettings, resolveModule, resolveRoute } from './resolve-options.js';
import { RouteRegistry } from './routes/route-registry.js';
import { connectionsOf, poolSizeOf } from './store/data-source.connections.js';
import { IdempotencyStore } from './store/idempotency.store.js';
import { migrate, missingMigrations } from './store/migrations/migrator.js';
import { checkServer, type ServerFacts } from './store/server-check.js';
import { type ConnectionSource, openSession, type Session } from './store/session.js';
import { quoteTable } from './store/table-name.js';
import { joinDataSource } from './transaction/join-data-source.js';

/** The runtime with what only the module needs. */
export interface StartedRuntime extends IdempotencyRuntime {
  readonly reaper: ExpiredRecordReaper;
  /** Told once the application is up. */
  readonly warnings: readonly string[];
}

/** Checks the options, prepares the database, and puts the parts together; what is wrong fails the start. */
export const runtimeProvider: FactoryProvider<StartedRuntime> = {
  provide: IDEMPOTENCY_RUNTIME,
  inject: [
    MODULE_OPTIONS_TOKEN,
    IDEMPOTENCY_DATA_SOURCE,
    IdempotencyEvents,
    RequestIdentityReader,
    RouteRegistry,
  ],
  useFactory: async (
    options: IdempotencyModuleOptions,
    dataSource: DataSource,
    events: IdempotencyEvents,
    identities: RequestIdentityReader,
    routes: RouteRegistry,
  ): Promise<StartedRuntime> => {
    checkNames(options, 'IdempotencyModule.forRoot()');
    const settings = resolveModule(options);
    resolveRoute(options);
    const source = connectionsOf(dataSource);
    const facts = await prepareDatabase(source, settings);
    const emit = events.emit.bind(events);
    const store = new IdempotencyStore(settings.table, source, facts.version);
    const { acquireTimeoutMs, reapIntervalMs: intervalMs, reapBatch: batch } = settings;
    const pool = poolSizeOf(dataSource);
    const maxWaiters = settings.maxWaiters ?? (pool < 2 ? 0 : Math.max(1, Math.floor(pool / 4)));
    const makeRunner = joinDataSource(dataSource);
    const engineSettings = { acquireTimeoutMs, maxWaiters };
    return {
      engine: new IdempotencyEngine({ store, dataSource, makeRunner, settings: engineSettings, emit }),
      reaper: new ExpiredRecordReaper(store, { intervalMs, batch, acquireTimeoutMs }, emit),
      warnings: [...facts.warnings, ...isolationWarning(dataSource)],
      routes,
      identities,
      events,
      settings,
    };
  },
};

async function prepareDatabase(source: ConnectionSource, settings: ModuleSettings): Promise<ServerFacts> {
  return withSession(source, settings.acquireTimeoutMs, async (session) => {
    const table = quoteTable(settings.table);
    // Before the migrations too, which fail on a standby with an error that says less.
    refuseUnusable(await checkServer(session, table));
    if (settings.migrations === 'run') await migrate(session, settings.table);
    if (settings.migrations === 'check') {
      const missing = await missingMigrations(session, settings.table);
      if (missing.length > 0) {
        throw new IdempotencyConfigurationError({
          option: 'migrations',
          received: 'check',
          fix:
            `The database lacks ${missing.join(', ')}: apply the SQL of migrationSql('${settings.table}'), or ` +
            "use migrations: 'run'.",
        });
      }
    }
    const facts = await checkServer(session, table);
    refuseUnusable(facts);
    if (!facts.tableExists) {
      throw new IdempotencyConfigurationError({
        option: 'migrations',
        received: settings.migrations,
        fix:
          `There is no table ${table} in the database: apply the SQL of migrationSql('${settings.table}'), or use ` +
          "migrations: 'run'.",
      });
    }
    return facts;
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

/** Attempts run at READ COMMITTED: a data source that asks for more does not get it inside them. */
function isolationWarning(dataSource: DataSource): string[] {
  const { isolationLevel } = dataSource.options as { isolationLevel?: string };
  return isolationLevel === undefined || isolationLevel === 'READ COMMITTED'
    ? []
    : [
        `the data source's isolationLevel is ${isolationLevel}, but idempotent handlers run at READ COMMITTED: ` +
          'guard what they read with row locks or constraints',
      ];
}
