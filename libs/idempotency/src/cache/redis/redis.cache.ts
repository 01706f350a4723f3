import type { SharedCache, SharedCacheWrite } from '../shared-cache.js';
import { ClusterLink } from './cluster.link.js';
import { reasonOf } from './connection.log.js';
import type { RedisLink } from './redis-link.js';
import type { RedisCacheOptions } from './redis.options.js';
import { type RedisSettings, resolveRedisOptions } from './resolve-redis-options.js';
import { ServerLink } from './server.link.js';

/** No text in Redis is longer. */
const LONGEST_VALUE = 512 * 1024 * 1024;

/**
 * A cache in Redis 6 or later, for `replayCache.shared`: one server, the master of a group with Sentinels, or a Redis Cluster.
 * It needs ioredis 5 beside it. Redis may evict, forget or lose what it likes: use `maxmemory` with an `allkeys-…` policy,
 * and no persistence.
 *
 * @throws {IdempotencyConfigurationError} naming the option, the value received and the fix.
 */
export function redisCache(options: RedisCacheOptions): SharedCache {
  return new RedisCache(linkTo(resolveRedisOptions(options)));
}

function linkTo(settings: RedisSettings): RedisLink {
  const { target } = settings;
  switch (target.kind) {
    case 'server':
    case 'sentinel':
      return new ServerLink(settings, target);
    case 'cluster':
      return new ClusterLink(settings, target);
  }
}

class RedisCache implements SharedCache {
  readonly name = 'redis';
  readonly maxValueBytes = LONGEST_VALUE;
  readonly #link: RedisLink;
  #closed = false;

  constructor(link: RedisLink) {
    this.#link = link;
  }

  start(): void {
    this.#link.start();
  }

  nodeOf(key: string): string {
    return this.#link.nodeOf(key);
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    return (await this.#ask(key, (client) => client.getBuffer(key))) ?? undefined;
  }

  async set(key: string, value: Uint8Array, { ttlMs, onlyIfAbsent }: SharedCacheWrite): Promise<void> {
    const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
    await this.#ask(key, (client) =>
      onlyIfAbsent ? client.set(key, bytes, 'PX', ttlMs, 'NX') : client.set(key, bytes, 'PX', ttlMs),
    );
  }

  async delete(key: string): Promise<void> {
    await this.#ask(key, (client) => client.del(key));
  }

  close(): Promise<void> {
    if (!this.#closed) this.#link.close();
    this.#closed = true;
    return Promise.resolve();
  }

  async #ask<T>(key: string, send: (client: RedisLink['client']) => Promise<T>): Promise<T> {
    if (this.#closed) throw new Error('the cache is closed');
    const connection = this.#link.connectionTo(this.#link.nodeOf(key));
    const sentAt = performance.now();
    return send(this.#link.client).then(
      (answer) => {
        connection?.answered();
        return answer;
      },
      (error: unknown) => {
        const reason = reasonOf(error);
        if (reason === TIMED_OUT) connection?.unanswered(sentAt);
        // A refusal is an answer too.
        else if ((error as Error).name === 'ReplyError') connection?.answered();
        // Not as it came: an error of ioredis carries the command, and with it the value.
        throw new Error(reason);
      },
    );
  }
}

/** What ioredis says of a command whose `commandTimeout` is over. */
const TIMED_OUT = 'Command timed out';
