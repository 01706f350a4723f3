import type { Redis } from 'ioredis';
import { type ConnectionLog, reasonOf } from './connection.log.js';

/**
 * One connection, which ioredis opens again whenever it is lost. A server that takes what it is sent and does not answer
 * keeps its connection open: that is found out by the commands that have gone unanswered, and the connection is dropped.
 */
export class WatchedConnection {
  readonly #redis: Redis;
  readonly #server: string;
  readonly #log: ConnectionLog;
  readonly #commandTimeoutMs: number;
  #reason: string | undefined;
  /** Since when the connection that stands is ready for commands. */
  #readyAt = Infinity;
  #answeredAt = -Infinity;

  constructor(redis: Redis, server: string, log: ConnectionLog, commandTimeoutMs: number) {
    this.#redis = redis;
    this.#server = server;
    this.#log = log;
    this.#commandTimeoutMs = commandTimeoutMs;
    // Without a listener an 'error' would end the process.
    redis.on('error', (error: unknown) => (this.#reason = reasonOf(error)));
    redis.on('ready', () => {
      this.#readyAt = performance.now();
      this.#reason = undefined;
      log.back(server);
    });
    redis.on('reconnecting', () => {
      // A connection that is lost and there again at once, as idle ones are closed, is no news.
      if (this.#readyAt === Infinity) log.away(server, this.#reason ?? 'the connection was closed');
      this.#readyAt = Infinity;
      this.#reason = undefined;
    });
  }

  /** Why the last connection failed, if it did. */
  get reason(): string | undefined {
    return this.#reason;
  }

  answered(): void {
    this.#answeredAt = performance.now();
  }

  /** A command that was sent then was given up. */
  unanswered(sentAt: number): void {
    // A command of an earlier connection says nothing about this one, nor does one that is late while others are answered.
    if (sentAt < this.#readyAt || this.#answeredAt >= sentAt) return;
    this.#log.away(this.#server, `no answer within ${this.#commandTimeoutMs} ms`);
    this.#readyAt = Infinity;
    this.#redis.stream.destroy();
  }

  /** Ends it at once, and with it every command that waits for its answer. */
  close(): void {
    this.#redis.disconnect();
  }
}
