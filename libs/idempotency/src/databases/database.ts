import { Logger } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import type { Limit } from '../background/limit.js';
import type { ReplayCaches } from '../cache/replay-caches.js';
import { AbandonedRecordCompleter } from '../completer/abandoned-record.completer.js';
import { IdempotencyEngine } from '../engine/idempotency.engine.js';
import { InFlightRegistry } from '../engine/in-flight.registry.js';
import { LeaseEngine } from '../engine/lease.engine.js';
import { Looks } from '../engine/looks.js';
import { WaiterSlots } from '../engine/waiter-slots.js';
import type { IdempotencyEvent } from '../events/idempotency-event.js';
import { stepErrors } from '../http/step-error.js';
import type { RecordDatabase } from '../idempotency.runtime.js';
import { ExpiredRecordReaper } from '../reaper/expired-record.reaper.js';
import type { ModuleSettings } from '../resolve-options.js';
import type { RouteCaller } from '../routes/route-caller.js';
import type { RouteRegistry } from '../routes/route-registry.js';
import type { Sealer } from '../sealing/sealer.js';
import { AdminStore } from '../store/admin.store.js';
import { connectionsOf, poolOf, poolSizeOf } from '../store/data-source.connections.js';
import { IdempotencyStore } from '../store/idempotency.store.js';
import { LeaseStore } from '../store/lease.store.js';
import type { AfterCommit } from '../transaction/after-commit.js';
import { joinDataSource } from '../transaction/join-data-source.js';
import { type PreparationTimeouts, prepareDatabase } from './prepare-database.js';

/** What all databases of the module have in common. */
export interface SharedParts {
  readonly settings: ModuleSettings;
  readonly sealing: Sealer | undefined;
  /** `undefined`: none. */
  readonly caches: ReplayCaches | undefined;
  readonly routes: RouteRegistry;
  readonly caller: RouteCaller;
  readonly emit: (event: IdempotencyEvent) => void;
  /** How many reapers and completers ask their databases at a time. */
  readonly lookups: Limit;
  /** How many records completers finish at a time. */
  readonly completions: Limit;
}

/** A database with records, and all that works on it. */
export interface Database extends RecordDatabase {
  readonly leaseEngine: LeaseEngine;
  readonly admin: AdminStore;
  readonly reaper: ExpiredRecordReaper;
  /** `undefined`: off. */
  readonly completer: AbandonedRecordCompleter | undefined;
  /** What takes promises back, for whoever runs it. */
  readonly warnings: readonly string[];
  /** Whether the connections that it was prepared for are still the data source's. */
  readonly isOpen: () => boolean;
}

/** Whether a database is one of many, which may come and go while the application runs. */
export interface DatabaseLife {
  readonly isTenant: boolean;
  readonly timeouts: PreparationTimeouts;
}

/** How many keys in flight elsewhere are looked after at a time, in lease mode with `onInFlight: 'wait'`. */
const LEASE_WAITERS = 50;

const NOT_CACHED =
  'the account may not call pg_control_system(), so that nothing tells its server from that of another tenant: it is not ' +
  'cached';

const logger = new Logger('Idempotency');

/**
 * Prepares the database of a data source, and puts together what works on it. Nothing in it is shared with another database: the
 * same key in two of them is two records, also for what this process knows of them.
 *
 * @throws {IdempotencyConfigurationError} for a database in which no execution is safe.
 */
export async function openDatabase(
  dataSource: DataSource,
  shared: SharedParts,
  { isTenant, timeouts }: DatabaseLife,
): Promise<Database> {
  const { settings, emit, lookups } = shared;
  const source = connectionsOf(dataSource);
  const pool = poolOf(dataSource);
  const facts = await prepareDatabase(source, settings, timeouts);
  const store = new IdempotencyStore(settings.table, source, facts.version, shared.sealing);
  const leases = new LeaseStore(store);
  const { acquireTimeoutMs, reapIntervalMs: intervalMs, reapBatch: batch } = settings;
  const maxWaiters = settings.maxWaiters ?? waitersOf(poolSizeOf(dataSource));
  const inFlight = new InFlightRegistry();
  // Fail closed: among tenants' databases, which are alike, one whose server has no name may be taken for another.
  const isMistakable = isTenant && facts.space?.namesServer === false;
  const cache = facts.space && !isMistakable ? shared.caches?.of(facts.space.id, store.clock) : undefined;
  const common = {
    dataSource,
    makeRunner: joinDataSource(dataSource),
    settings: { acquireTimeoutMs, maxWaiters },
    afterCommit: runAfterCommit,
    emit,
  };
  const transactions = new IdempotencyEngine({
    ...common,
    store,
    turns: { inFlight, waiters: new WaiterSlots(maxWaiters), cache, looks: new Looks() },
  });
  const leaseEngine = new LeaseEngine({
    ...common,
    store: leases,
    errors: stepErrors,
    // Whoever waits in lease mode looks from time to time, and holds no connection in between.
    turns: { inFlight, waiters: new WaiterSlots(LEASE_WAITERS), cache, looks: new Looks() },
  });
  const engines = { transaction: transactions, lease: leaseEngine };
  const isOpen = (): boolean => dataSource.isInitialized && poolOf(dataSource) === pool;
  // TypeORM calls a data source open until the last of its connections is closed, and its pool gives none away before that.
  const isClosing = (): boolean => !isOpen() || pool?.ending === true;
  // A tenant's data source that was closed must not be kept in memory by what looks at its database.
  const life = { isOver: isTenant ? isClosing : undefined, isSpread: isTenant, lookups };
  return {
    engines,
    leaseEngine,
    admin: new AdminStore(store, cache),
    reaper: new ExpiredRecordReaper(store, { intervalMs, batch, acquireTimeoutMs, ...life }, emit),
    completer:
      settings.completer &&
      new AbandonedRecordCompleter({
        store: leases,
        database: { engines },
        dataSource,
        routes: shared.routes,
        caller: shared.caller,
        namespace: settings.namespace,
        acquireTimeoutMs,
        settings: settings.completer,
        completions: shared.completions,
        ...life,
      }),
    warnings: [...facts.warnings, ...isolationWarning(dataSource), ...(isMistakable ? [NOT_CACHED] : [])],
    isOpen,
  };
}

/** From when on expired records are deleted and abandoned ones finished. */
export function startBackground({ reaper, completer }: Database): void {
  reaper.start();
  completer?.start();
}

export async function stopBackground({ reaper, completer }: Database): Promise<void> {
  await Promise.all([reaper.stop(), completer?.stop()]);
}

/** A pool of one has none to spare: whoever waits would keep the attempt from its connection. */
function waitersOf(poolSize: number): number {
  return poolSize < 2 ? 0 : Math.max(1, Math.floor(poolSize / 4));
}

function runAfterCommit(callbacks: AfterCommit): void {
  void callbacks.run((error) => {
    logger.error(
      `A function given to attempt.afterCommit() failed: ${String(error)}`,
      error instanceof Error ? error.stack : undefined,
    );
  });
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
