import { Cluster, type Redis } from 'ioredis';
import { backOffMs } from './back-off.js';
import { ConnectionLog, reasonOf } from './connection.log.js';
import { slotOf } from './key-slot.js';
import { connectionSettings, type RedisLink } from './redis-link.js';
import type { ClusterTarget, RedisSettings } from './resolve-redis-options.js';
import { WatchedConnection } from './watched-connection.js';

/** How often it is looked whether nodes are reached. */
const LOOK_MS = 1_000;
/** How often the nodes are asked who has which slots; nobody tells when a replica has taken over from a master that died. */
const REFRESH_MS = 5_000;
/** Of a cluster that has not been reached for so long every node may have another address: it is looked for from the beginning. */
const START_AGAIN_MS = 5_000;

/** The nodes of a Redis Cluster. Only masters are asked. */
export class ClusterLink implements RedisLink {
  readonly #settings: RedisSettings;
  readonly #target: ClusterTarget;
  readonly #name: string;
  readonly #log = new ConnectionLog();
  readonly #connections = new Map<string, { readonly redis: Redis; readonly watch: WatchedConnection }>();
  #client: Cluster;
  #timer: NodeJS.Timeout | undefined;
  #reachedAt = 0;
  #refreshedAt = 0;
  #closed = false;

  constructor(settings: RedisSettings, target: ClusterTarget) {
    this.#settings = settings;
    this.#target = target;
    this.#name = `the Redis Cluster at ${target.nodes.map(({ host, port }) => `${host}:${port}`).join(', ')}`;
    this.#client = this.#open();
  }

  get client(): Cluster {
    return this.#client;
  }

  start(): void {
    if (this.#closed || this.#timer) return;
    this.#reachedAt = performance.now();
    this.#connect();
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
    this.#timer.unref();
  }

  nodeOf(key: string): string {
    return this.#client.slots[slotOf(key)]?.[0] ?? '';
  }

  connectionTo(node: string): WatchedConnection | undefined {
    return this.#connections.get(node)?.watch;
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#leave();
  }

  #open(): Cluster {
    const { retryStrategy: _, enableOfflineQueue: __, ...redisOptions } = connectionSettings(this.#settings);
    const client = new Cluster(
      this.#target.nodes.map(({ host, port }) => ({ host, port })),
      {
        ...this.#target.options,
        redisOptions,
        lazyConnect: true,
        scaleReads: 'master',
        enableOfflineQueue: false,
        // The state of the cluster is not asked for: a node that is cut off answers CLUSTERDOWN.
        enableReadyCheck: false,
        enableAutoPipelining: false,
        clusterRetryStrategy: (times, reason) => {
          if (reason) this.#log.away(this.#name, reasonOf(reason));
          return backOffMs(times);
        },
        // Otherwise a node that is away is forgotten, and each of its keys is asked for at another one and sent back.
        clusterNodeRetryStrategy: backOffMs,
        // A command follows its key to another node, and waits for nothing.
        maxRedirections: 4,
        retryDelayOnFailover: 0,
        retryDelayOnClusterDown: 0,
        slotsRefreshTimeout: this.#settings.commandTimeoutMs,
      },
    );
    client.on('error', (error: unknown) => this.#log.away(this.#name, reasonOf(error)));
    client.on('ready', () => {
      this.#log.back(this.#name);
      for (const redis of client.nodes('master')) connect(redis);
    });
    client.on('+node', (redis: Redis) => {
      if (client !== this.#client) return;
      this.#watch(redis);
      // Before that they are needed for nothing but to be asked for the others.
      if (client.status === 'ready' && !redis.options.readOnly) connect(redis);
    });
    client.on('-node', (redis: Redis) => this.#forget(redis));
    return client;
  }

  #connect(): void {
    // Why it failed is told by events, and it goes on trying by itself.
    void this.#client.connect().catch(() => undefined);
  }

  #watch(redis: Redis): void {
    const node = addressOf(redis);
    const watch = new WatchedConnection(
      redis,
      `the Redis node at ${node}`,
      this.#log,
      this.#settings.commandTimeoutMs,
    );
    this.#connections.set(node, { redis, watch });
  }

  #forget(redis: Redis): void {
    const node = addressOf(redis);
    if (this.#connections.get(node)?.redis !== redis) return;
    this.#connections.delete(node);
    this.#log.forget(`the Redis node at ${node}`);
  }

  #look(): void {
    const now = performance.now();
    const masters = this.#client.nodes('master');
    if (masters.some(({ status }) => status === 'ready')) this.#reachedAt = now;
    if (now - this.#reachedAt > START_AGAIN_MS) {
      this.#log.away(this.#name, 'none of its nodes answers');
      this.#reachedAt = now;
      this.#leave();
      this.#client = this.#open();
      this.#connect();
      return;
    }
    const incomplete = masters.some(({ status }) => status !== 'ready');
    if (this.#client.status === 'ready' && (incomplete || now - this.#refreshedAt > REFRESH_MS)) {
      this.#refreshedAt = now;
      this.#client.refreshSlotsCache();
    }
  }

  #leave(): void {
    this.#client.disconnect();
    this.#connections.clear();
  }
}

function addressOf({ options }: Redis): string {
  return `${options.host}:${options.port}`;
}

function connect(redis: Redis): void {
  // Told by its events; it rejects also when it is connecting already.
  if (redis.status === 'wait') void redis.connect().catch(() => undefined);
}
