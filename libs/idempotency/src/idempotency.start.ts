import type { FactoryProvider } from '@nestjs/common';
import { IdempotencyAdmin } from './admin/idempotency.admin.js';
import { Limit } from './background/limit.js';
import { ReplayCaches } from './cache/replay-caches.js';
import type { SharedParts } from './databases/database.js';
import type { Databases } from './databases/databases.js';
import { OneDatabase } from './databases/one-database.js';
import { TenantDatabases } from './databases/tenant-databases.js';
import { Drain } from './engine/drain.js';
import { EventLog } from './events/event-log.js';
import type { IdempotencyEvent } from './events/idempotency-event.js';
import { IdempotencyEvents } from './events/idempotency-events.js';
import { keyHash } from './http/key-hash.js';
import { isNeverReplayed } from './http/replay-headers.js';
import { RequestIdentityReader } from './http/request-identity.js';
import {
  dataSourceOf,
  type DeclaredDataSource,
  IDEMPOTENCY_DATA_SOURCE,
  MODULE_OPTIONS_TOKEN,
} from './idempotency.module-definition.js';
import type { IdempotencyModuleOptions } from './idempotency.options.js';
import { IDEMPOTENCY_RUNTIME, type IdempotencyRuntime } from './idempotency.runtime.js';
import {
  checkNames,
  type ModuleSettings,
  resolveModule,
  resolveRoute,
  resolverIn,
} from './resolve-options.js';
import { RouteCaller } from './routes/route-caller.js';
import { RouteRegistry } from './routes/route-registry.js';
import { Sealer } from './sealing/sealer.js';
import { downstreamKeyOf } from './transaction/downstream-key.js';

/** The runtime with what only the module needs. */
export interface StartedRuntime extends IdempotencyRuntime {
  readonly databases: Databases;
  readonly admin: IdempotencyAdmin;
  /** `undefined`: none. */
  readonly caches: ReplayCaches | undefined;
}

/**
 * How many databases reapers and completers ask at a time: with many of them, each round takes a connection, which stays open
 * for a while.
 */
const LOOKUPS = 8;

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
    declared: DeclaredDataSource,
    events: IdempotencyEvents,
    identities: RequestIdentityReader,
    routes: RouteRegistry,
    caller: RouteCaller,
  ): Promise<StartedRuntime> => {
    checkNames(options, 'IdempotencyModule.forRoot()');
    const settings = resolveModule(options);
    resolveRoute(options);
    const dataSource = dataSourceOf(declared, resolverIn(options));
    const log = new EventLog();
    const emit = (event: IdempotencyEvent): void => {
      log.write(event);
      events.emit(event);
    };
    const caches = replayCaches(settings, emit);
    const shared: SharedParts = {
      settings,
      sealing: settings.encryptionKeys ? new Sealer(settings.encryptionKeys) : undefined,
      caches,
      routes,
      caller,
      emit,
      lookups: new Limit(LOOKUPS),
      completions: new Limit(settings.completer?.concurrency ?? 1),
    };
    const databases: Databases =
      typeof dataSource === 'function'
        ? new TenantDatabases(dataSource, shared)
        : await OneDatabase.open(dataSource, shared);
    return {
      databases,
      admin: new IdempotencyAdmin({
        store: () => databases.adminStore(),
        storeOf: (ofDataSource) => databases.adminStoreOf(ofDataSource),
        namespace: settings.namespace,
        timeoutMs: settings.acquireTimeoutMs,
        hashOf: keyHash,
        downstreamKeyOf,
        isNeverReplayed,
        emit,
      }),
      caches,
      drain: new Drain(),
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
