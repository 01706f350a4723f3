import type { ClusterOptions, RedisOptions } from 'ioredis';
import type { Duration } from '../../duration.js';

/** Where a server listens. */
export interface RedisAddress {
  /** Name or address: `'redis-1'`, `'10.0.0.5'`, `'::1'`. */
  host: string;
  /** 1 to 65535. */
  port: number;
}

/**
 * Settings of ioredis that are the application's own: who it is, and how the connection is secured. How commands are
 * queued, sent again and timed out is not among them: a cache that is away must be one that is empty.
 */
export type RedisConnectionSettings = Pick<
  RedisOptions,
  | 'username'
  | 'password'
  | 'tls'
  | 'db'
  | 'family'
  | 'connectionName'
  | 'sentinelUsername'
  | 'sentinelPassword'
  | 'sentinelTLS'
  | 'natMap'
>;

/** Settings of ioredis by which the nodes of a cluster are found. */
export type RedisClusterSettings = Pick<
  ClusterOptions,
  'natMap' | 'dnsLookup' | 'useSRVRecords' | 'resolveSrv'
>;

/** What is set for one server, for Sentinel and for a cluster alike. */
export interface RedisConnectionOptions {
  /**
   * How long the answer to a command may take; then it is given up, and when nothing at all has come in since it was sent, the
   * connection is closed and opened again. So it bounds for how long operations pile up on a server that takes what it is sent
   * and does not answer. Requests do not wait for it: they wait for `replayCache.timeout`. Too short: a server that is
   * busy for a moment loses its connections. Too long: more operations are held on a server that hangs. 10 ms to 60 s.
   * @default '1s'
   */
  commandTimeout?: Duration;

  /**
   * How long connecting may take, with the handshake of TLS, before it is given up and tried again. Too short: a server far
   * away is never reached. Too long: one that has moved is found late. 10 ms to 60 s.
   * @default '2s'
   */
  connectTimeout?: Duration;

  /**
   * User, password, TLS and the like, as ioredis takes them: `username`, `password`, `tls`, `family`, `connectionName`; `db`
   * for one server and for Sentinel; `sentinelUsername`, `sentinelPassword`, `sentinelTLS` and `natMap` for Sentinel.
   * What stands in the URL goes before what stands here.
   * @default {}
   */
  options?: RedisConnectionSettings;
}

/** One server. */
export interface RedisServerCacheOptions extends RedisConnectionOptions {
  /** `redis://user:password@host:port/db`, or `rediss://` with TLS. Without a port it is 6379, without a `db` 0. */
  url: string;
}

/** The master of a group that Sentinels watch, whichever it is at the time. */
export interface RedisSentinelCacheOptions extends RedisConnectionOptions {
  /** Where the Sentinels listen. One that answers is enough; the others are learned from it. */
  sentinels: readonly RedisAddress[];
  /** Name of the group of servers, as in the configuration of the Sentinels: `'mymaster'`. */
  name: string;
}

/** A Redis Cluster. */
export interface RedisClusterCacheOptions extends RedisConnectionOptions {
  /** Nodes to ask for all the others. One that answers is enough. */
  cluster: readonly RedisAddress[];
  /**
   * How nodes are found: `natMap` where they are reached by other addresses than they tell each other; `dnsLookup` where the
   * names that they tell must not be resolved, for the sake of their certificates; `useSRVRecords`, `resolveSrv`.
   * @default {}
   */
  clusterOptions?: RedisClusterSettings;
}

/** Options of `redisCache()`: one server, or Sentinels, or a cluster. */
export type RedisCacheOptions =
  RedisServerCacheOptions | RedisSentinelCacheOptions | RedisClusterCacheOptions;
