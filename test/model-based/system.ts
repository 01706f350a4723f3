import { randomBytes } from 'node:crypto';
import {
  IdempotencyAdmin,
  IdempotencyEvents,
  type IdempotencyModuleOptions,
  type LocalCache,
  type SharedCache,
} from 'nestjs-pg-idempotency';
import { memoryCache } from 'nestjs-pg-idempotency/memory';
import type { Pool } from 'pg';
import type { OneDatabase } from '../../libs/idempotency/src/databases/one-database.js';
import { IDEMPOTENCY_RUNTIME } from '../../libs/idempotency/src/idempotency.runtime.js';
import type { Platform, TestApp } from '../support/app.js';
import { openStage, type StagedApp } from '../support/stage.js';
import { startProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { type LocalServer } from '../support/topology.js';
import { until } from '../support/until.js';
import { Desk, OrdersController } from './orders.js';
import type { Place } from './words.js';

/** A real server that the instances share as their replay cache. */
export interface CacheServer {
  readonly server: LocalServer;
  /** A client of it, for one instance. */
  open(): SharedCache;
  flush(): Promise<void>;
}

export interface SystemOptions {
  readonly platform: Platform;
  readonly pipeline: boolean;
  readonly cache?: CacheServer;
  /** Whether instances tell each other what is in flight. */
  readonly hasHints?: boolean;
}

/** Two instances on one database, and what can be done to them. All runs of a test share it. */
export interface System {
  readonly desk: Desk;
  readonly admin: IdempotencyAdmin;
  readonly hasHints: boolean;
  readonly rows: StagedApp['rows'];
  url(place: Place): string;
  /** Deletes what has expired, as the reaper does on its schedule. */
  reap(): Promise<void>;
  forget(): void;
  flush(): Promise<void>;
  freezeCache(): Promise<void>;
  /** Resolves when every instance asks it again. */
  thawCache(): Promise<void>;
  /** Ends all connections of the instances and lets none in until `meanwhile` is over. */
  cutDatabase<T>(meanwhile: () => Promise<T>): Promise<T>;
  /** Waits until no transaction is open. */
  quiet(): Promise<void>;
  close(): Promise<void>;
}

/** A memory cache that can be emptied. */
function forgetful(): LocalCache & { forget(): void } {
  let held = memoryCache();
  return {
    get: (key) => held.get(key),
    set: (key, outcome, bytes) => held.set(key, outcome, bytes),
    delete: (key) => held.delete(key),
    forget: () => {
      held = memoryCache();
    },
  };
}

export async function openSystem({
  platform,
  pipeline,
  cache,
  hasHints = false,
}: SystemOptions): Promise<System> {
  const memory = forgetful();
  const keys = [randomBytes(32)];
  const cached = (local?: LocalCache): IdempotencyModuleOptions =>
    cache
      ? {
          replayCache: {
            ...(local ? { memory: local } : {}),
            shared: cache.open(),
            keys,
            inFlightTtl: hasHints ? '1s' : false,
          },
        }
      : {};
  const desk = new Desk();
  let proxy!: TcpProxy;
  const here = await openStage({
    platform,
    pipeline,
    controllers: [OrdersController],
    providers: [{ provide: Desk, useValue: desk }],
    idempotency: cached(memory),
    through: async (databaseUrl) => {
      const url = new URL(databaseUrl);
      proxy = await startProxy({ host: url.hostname, port: Number(url.port) });
      url.port = String(proxy.port);
      return url.href;
    },
  });
  // Its memory could not be told of an erasure by another instance: it has none.
  const there = await here.twin(cached());
  const apps: readonly TestApp[] = [here, there];
  const unavailable = new Set<TestApp>();
  for (const app of apps) {
    app.app.get(IdempotencyEvents).events.subscribe(({ type }) => {
      if (type === 'cache-unavailable') unavailable.add(app);
      if (type === 'cache-available') unavailable.delete(app);
    });
  }
  const pools = apps.map(({ dataSource }) => (dataSource.driver as unknown as { master: Pool }).master);
  const { database } = here.app.get<{ databases: OneDatabase }>(IDEMPOTENCY_RUNTIME, {
    strict: false,
  }).databases;
  return {
    desk,
    admin: here.app.get(IdempotencyAdmin),
    hasHints,
    rows: here.rows,
    url: (place) => (place === 'here' ? here : there).url,
    reap: async () => void (await database.reaper.reap()),
    forget: () => memory.forget(),
    flush: async () => cache?.flush(),
    freezeCache: async () => cache?.server.pause(),
    thawCache: async () => {
      cache?.server.resume();
      await until('the cache is asked again', () => unavailable.size === 0);
    },
    cutDatabase: async (meanwhile) => {
      proxy.setDown(true);
      try {
        const result = await meanwhile();
        await until('the pools have seen it', () => pools.every(({ totalCount }) => totalCount === 0));
        return result;
      } finally {
        proxy.setDown(false);
      }
    },
    quiet: () => here.quiet(),
    close: async () => {
      await there.close();
      await here.close();
      await proxy.close();
    },
  };
}
