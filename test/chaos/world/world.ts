import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { freePorts } from '../../../deploy/local/processes.js';
import { startMemcached, type MemcachedServer } from '../../../deploy/local/memcached-server.js';
import { type NginxServer, startNginx } from '../../../deploy/local/nginx-server.js';
import { type RedisServer, startRedis } from '../../../deploy/local/redis-server.js';
import type { ProviderRequest } from '../app/provider.client.js';
import type { CacheSettings } from '../app/settings.js';
import { type FaultProxy, startFaultProxy } from '../../support/fault-proxy.js';
import { type Database, startDatabase } from './database.js';
import { Instance } from './instance.js';
import { type Provider, startProvider } from './provider.js';

/** How long an attempt may run, and how long a lease is, in milliseconds. */
export const MAX_RUNTIME_MS = 2_000;
export const LEASE_MS = 1_000;
const INSTANCES = 4;
export const POOL_SIZE = 5;

/** Everything that a run has around it. */
export interface World {
  readonly database: Database;
  readonly instances: readonly Instance[];
  /** The way of each instance to PostgreSQL. */
  readonly databaseWays: readonly FaultProxy[];
  /** The ways of all instances to Redis and to Memcached. */
  readonly cacheWays: Readonly<Record<'redis' | 'memcached', FaultProxy>>;
  readonly redis: RedisServer;
  readonly memcached: MemcachedServer;
  readonly nginx: NginxServer;
  /** The way of the clients to nginx. */
  readonly clientWay: FaultProxy;
  close(): Promise<void>;
}

const BUNDLE = fileURLToPath(new URL('bundle.js', import.meta.url));

/** In a process of its own: every process that the driver starts later is a copy of its memory first. */
async function bundleInto(folder: string): Promise<string> {
  const file = join(folder, 'instance.cjs');
  await promisify(execFile)(process.execPath, [BUNDLE, file]);
  return file;
}

/** Four instances behind nginx, two on Express and two on Fastify, two with Redis behind their memory and two with Memcached. */
export async function openWorld(
  onProviderCall: (request: ProviderRequest) => void,
  hasStandbys: boolean,
): Promise<World> {
  const opened: (() => Promise<unknown>)[] = [];
  const open = async <T>(start: Promise<T>, close: (started: T) => Promise<unknown>): Promise<T> => {
    const started = await start;
    opened.unshift(() => close(started));
    return started;
  };
  const stop = (server: { stop(): Promise<void> }): Promise<void> => server.stop();
  const close = (server: { close(): Promise<void> }): Promise<void> => server.close();
  const closeAll = async (): Promise<void> => {
    for (const each of opened) await each();
  };
  try {
    const folder = mkdtempSync(join(tmpdir(), 'idempotency-chaos-bundle-'));
    opened.unshift(async () => rmSync(folder, { recursive: true, force: true }));
    const [bundle, database, redis, memcached] = await Promise.all([
      bundleInto(folder),
      open(startDatabase(), stop),
      open(startRedis(), stop),
      open(startMemcached(), stop),
    ]);
    const provider: Provider = await open(startProvider(onProviderCall), close);
    const cacheWays = {
      redis: await open(startFaultProxy({ targetPort: () => redis.port }), close),
      memcached: await open(startFaultProxy({ targetPort: () => memcached.port }), close),
    };
    const key = randomBytes(32).toString('hex');
    const caches: readonly CacheSettings[] = [
      { kind: 'redis', url: `redis://127.0.0.1:${cacheWays.redis.port}`, key },
      { kind: 'memcached', node: `127.0.0.1:${cacheWays.memcached.port}`, key },
    ];
    const ports = await freePorts(INSTANCES);
    const databaseWays: FaultProxy[] = [];
    const instances: Instance[] = [];
    for (const [index, port] of ports.entries()) {
      const way = await open(
        startFaultProxy({ targetPort: () => database.port, protocol: 'postgres' }),
        close,
      );
      databaseWays.push(way);
      const url = new URL(database.url);
      url.port = String(way.port);
      const settings = {
        port,
        platform: index < 2 ? 'express' : 'fastify',
        databaseUrl: url.href,
        providerUrl: provider.url,
        cache: caches[index % caches.length] as CacheSettings,
        poolSize: POOL_SIZE,
        maxRuntime: `${MAX_RUNTIME_MS}ms`,
        leaseTtl: `${LEASE_MS}ms`,
      } as const;
      const instance = new Instance(index, settings, bundle, hasStandbys);
      instances.push(instance);
      await open(Promise.resolve(instance), close);
    }
    await Promise.all(instances.map((instance) => instance.start()));
    const down = instances.filter(({ isUp }) => !isUp);
    if (down.length > 0) throw new Error(`${down.length} of ${INSTANCES} instances did not start`);
    const nginx = await open(
      startNginx({ instances: instances.map(({ url }) => url), answerTimeout: '4s' }),
      stop,
    );
    const clientWay = await open(startFaultProxy({ targetPort: () => nginx.port }), close);
    return {
      database,
      instances,
      databaseWays,
      cacheWays,
      redis,
      memcached,
      nginx,
      clientWay,
      close: closeAll,
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}
