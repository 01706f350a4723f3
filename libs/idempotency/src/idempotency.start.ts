import { type FactoryProvider, Logger } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import { ReplayCaches } from './cache/replay-caches.js';
import { AbandonedRecordCompleter } from './completer/abandoned-record.completer.js';
import { IdempotencyAdmin } from './admin/idempotency.admin.js';
import { IdempotencyEngine } from './engine/idempotency.engine.js';
import { InFlightRegistry } from './engine/in-flight.registry.js';
import { LeaseEngine } from './engine/lease.engine.js';
import { WaiterSlots } from './engine/waiter-slots.js';
import { IdempotencyConfigurationError } from './errors/configuration.error.js';
import { EventLog } from './events/event-log.js';
import type { IdempotencyEvent } from './events/idempotency-event.js';
import { IdempotencyEvents } from './events/idempotency-events.js';
import { keyHash } from './http/key-hash.js';
import { isNeverReplayed } from './http/replay-headers.js';
import { RequestIdentityReader } from './http/request-identity.js';
import { stepErrors } from './http/step-error.js';
import { IDEMPOTENCY_DATA_SOURCE, MODULE_OPTIONS_TOKEN } from './idempotency.module-definition.js';
import type { IdempotencyModuleOptions } from './idempotency.options.js';
import { IDEMPOTENCY_RUNTIME, type IdempotencyRuntime } from './idempotency.runtime.js';
import { ExpiredRecordReaper } from './reaper/expired-record.reaper.js';
import { checkNames, type ModuleSettings, resolveModule, resolveRoute } from './resolve-options.js';
import { RouteCaller } from './routes/route-caller.js';
import { RouteRegistry } from './routes/route-registry.js';
import { Sealer } from './sealing/sealer.js';
import { AdminStore } from './store/admin.store.js';
import { connectionsOf, poolSizeOf } from './store/data-source.connections.js';
import { IdempotencyStore } from './store/idempotency.store.js';
import { LeaseStore } from './store/lease.store.js';
import { migrate, missingMigrations } from './store/migrations/migrator.js';
import { checkServer, type ServerFacts } from './store/server-check.js';
import { type ConnectionSource, openSession, type Session } from './store/session.js';
import { tableSpace } from './store/table-space.js';
import type { AfterCommit } from './transaction/after-commit.js';
import { downstreamKeyOf } from './transaction/downstream-key.js';
import { joinDataSource } from './transaction/join-data-source.js';

/** The runtime with what only the module needs. */
export interface StartedRuntime extends IdempotencyRuntime {
  readonly leaseEngine: LeaseEngine;
  readonly admin: IdempotencyAdmin;
  readonly reaper: ExpiredRecordReaper;
  /** `undefined`: none. */
  readonly caches: ReplayCaches | undefined;
  /** `undefined`: off. */
  readonly completer: AbandonedRecordCompleter | undefined;
  /** Told once the application is up. */
  readonly warnings: readonly string[];
}

/** How many keys in flight elsewhere are looked after at a time, in lease mode with `onInFlight: 'wait'`. */
const LEASE_WAITERS = 50;

const logger = new Logger('Idempotency');

function runAfterCommit(callbacks: AfterCommit): void {
  void callbacks.run((error) => {
    logger.error(
      `A function given to attempt.afterCommit() failed: ${String(error)}`,
      error instanceof Error ? error.stack : undefined,
    );
  });
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
    RouteCaller,
  ],
  useFactory: async (
    options: IdempotencyModuleOptions,
    dataSource: DataSource,
    events: IdempotencyEvents,
    identities: RequestIdentityReader,
    routes: RouteRegistry,
    caller: RouteCaller,
  ): Promise<StartedRuntime> => {
    checkNames(options, 'IdempotencyModule.forRoot()');
    const settings = resolveModule(options);
    resolveRoute(options);
    const source = connectionsOf(dataSource);
    const facts = await prepareDatabase(source, settings);
    const log = new EventLog();
    const emit = (event: IdempotencyEvent): void => {
      log.write(event);
      events.emit(event);
    };
    const sealing = settings.encryptionKeys ? new Sealer(settings.encryptionKeys) : undefined;
    const caches = replayCaches(settings, emit);
    const store = new IdempotencyStore(settings.table, source, facts.version, sealing);
    const leases = new LeaseStore(store);
    const { acquireTimeoutMs, reapIntervalMs: intervalMs, reapBatch: batch } = settings;
    const pool = poolSizeOf(dataSource);
    const maxWaiters = settings.maxWaiters ?? (pool < 2 ? 0 : Math.max(1, Math.floor(pool / 4)));
    const makeRunner = joinDataSource(dataSource);
    const inFlight = new InFlightRegistry();
    const cache = caches?.of(facts.space, store.clock);
    const shared = {
      dataSource,
      makeRunner,
      settings: { acquireTimeoutMs, maxWaiters },
      afterCommit: runAfterCommit,
      emit,
    };
    const transactions = new IdempotencyEngine({
      ...shared,
      store,
      turns: { inFlight, waiters: new WaiterSlots(maxWaiters), cache },
    });
    const leaseEngine = new LeaseEngine({
      ...shared,
      store: leases,
      errors: stepErrors,
      // Whoever waits in lease mode looks from time to time, and holds no connection in between.
      turns: { inFlight, waiters: new WaiterSlots(LEASE_WAITERS), cache },
    });
    return {
      engines: { transaction: transactions, lease: leaseEngine },
      leaseEngine,
      completer:
        settings.completer &&
        new AbandonedRecordCompleter({
          store: leases,
          routes,
          caller,
          namespace: settings.namespace,
          acquireTimeoutMs,
          settings: settings.completer,
        }),
      admin: new IdempotencyAdmin({
        store: new AdminStore(store),
        namespace: settings.namespace,
        timeoutMs: acquireTimeoutMs,
        hashOf: keyHash,
        downstreamKeyOf,
        isNeverReplayed,
        emit,
      }),
      reaper: new ExpiredRecordReaper(store, { intervalMs, batch, acquireTimeoutMs }, emit),
      caches,
      warnings: [...facts.warnings, ...isolationWarning(dataSource)],
      routes,
      identities,
      events,
      settings,
    };
  },
};

function replayCaches(
  { replayCache }: ModuleSettings,
  emit: (event: IdempotencyEvent) => void,
): ReplayCaches | undefined {
  if (!replayCache) return undefined;
  const { shared, ...settings } = replayCache;
  const sealed = shared && { cache: shared.cache, sealing: new Sealer(shared.keys) };
  return new ReplayCaches({ ...settings, shared: sealed, emit });
}

async function prepareDatabase(
  source: ConnectionSource,
  settings: ModuleSettings,
): Promise<ServerFacts & { readonly space: string }> {
  return withSession(source, settings.acquireTimeoutMs, async (session) => {
    // Before the migrations too, which fail on a standby with an error that says less.
    refuseUnusable(await checkServer(session, settings.table));
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
    const facts = await checkServer(session, settings.table);
    refuseUnusable(facts);
    if (facts.missingTable !== undefined) {
      throw new IdempotencyConfigurationError({
        option: 'migrations',
        received: settings.migrations,
        fix:
          `There is no table ${facts.missingTable} in the database: apply the SQL of migrationSql('${settings.table}'), or use ` +
          "migrations: 'run'.",
      });
    }
    return { ...facts, space: settings.replayCache ? await tableSpace(session, settings.table) : '' };
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
