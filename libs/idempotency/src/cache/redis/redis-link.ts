import type { Cluster, Redis, RedisOptions } from 'ioredis';
import { backOffMs } from './back-off.js';
import type { RedisSettings } from './resolve-redis-options.js';
import type { WatchedConnection } from './watched-connection.js';

/** The way to where the keys are: one server, the master that Sentinels name, or the nodes of a cluster. */
export interface RedisLink {
  /** What commands are given to at this moment. It rejects at once what it cannot send. */
  readonly client: Redis | Cluster;
  /** Begins to connect. Neither throws nor is waited for. */
  start(): void;
  nodeOf(key: string): string;
  /** The connection by which that node is asked, if there is one. */
  connectionTo(node: string): WatchedConnection | undefined;
  close(): void;
}

/** How a connection of ours behaves, whatever the application sets: what cannot be sent now is refused now, and nothing is sent twice. */
export function connectionSettings({
  connection,
  commandTimeoutMs,
  connectTimeoutMs,
}: RedisSettings): RedisOptions {
  return {
    ...connection,
    lazyConnect: true,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    // Commands are written as they come. Pipelines made of them would queue behind each other, outside of every timeout.
    enableAutoPipelining: false,
    // A server that still loads its data is not ready.
    enableReadyCheck: true,
    maxLoadingRetryTime: 1_000,
    commandTimeout: commandTimeoutMs,
    connectTimeout: connectTimeoutMs,
    // Nothing is expected any more of a connection that is closed: a server that does not close its side is not waited for.
    disconnectTimeout: 10,
    keepAlive: 10_000,
    disableClientInfo: true,
    retryStrategy: backOffMs,
  };
}
