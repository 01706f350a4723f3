import { Redis } from 'ioredis';
import { backOffMs } from './back-off.js';
import { ConnectionLog } from './connection.log.js';
import { connectionSettings, type RedisLink } from './redis-link.js';
import type { RedisSettings, SentinelTarget, ServerTarget } from './resolve-redis-options.js';
import { WatchedConnection } from './watched-connection.js';

/** A server that stays read-only is not connected to more often than this. */
const READ_ONLY_PAUSE_MS = 5_000;

/** One server, named by its address or by Sentinels. */
export class ServerLink implements RedisLink {
  readonly client: Redis;
  readonly #node: string;
  readonly #connection: WatchedConnection;
  #failures = 0;
  #retry: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(settings: RedisSettings, target: ServerTarget | SentinelTarget) {
    const { server, ...where } = target.kind === 'server' ? serverOf(target) : sentinelOf(target, settings);
    const log = new ConnectionLog();
    this.#node = target.kind === 'server' ? `${target.host}:${target.port}` : target.name;
    this.client = new Redis({ ...connectionSettings(settings), ...where, reconnectOnError: onceReadOnly() });
    this.#connection = new WatchedConnection(this.client, server, log, settings.commandTimeoutMs);
    this.client.on('ready', () => (this.#failures = 0));
    this.client.on('end', () => {
      if (this.#closed) return;
      log.away(server, this.#connection.reason ?? 'the connection was closed');
      this.#failures += 1;
      this.#retry = setTimeout(() => this.start(), backOffMs(this.#failures));
    });
  }

  start(): void {
    // Why it failed is told by events, and what comes next is arranged there.
    if (!this.#closed) void this.client.connect().catch(() => undefined);
  }

  nodeOf(): string {
    return this.#node;
  }

  connectionTo(): WatchedConnection {
    return this.#connection;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#connection.close();
  }
}

function serverOf({ host, port }: ServerTarget) {
  return { host, port, server: `the Redis at ${host}:${port}` };
}

function sentinelOf({ sentinels, name }: SentinelTarget, settings: RedisSettings) {
  const addresses = sentinels.map(({ host, port }) => `${host}:${port}`).join(', ');
  return {
    sentinels: sentinels.map(({ host, port }) => ({ host, port })),
    name,
    role: 'master' as const,
    enableTLSForSentinelMode: settings.connection.tls !== undefined,
    sentinelCommandTimeout: settings.commandTimeoutMs,
    // ioredis would wait by a timer that nobody can stop; here 'end' comes instead, and starts the next round.
    sentinelRetryStrategy: () => null,
    server: `the Redis '${name}' of the Sentinels at ${addresses}`,
  };
}

/** A master that has become a replica refuses to write. Connecting again leads to the new one, by its name or by a Sentinel. */
function onceReadOnly(): (error: Error) => boolean {
  let last = -Infinity;
  return ({ message }) => {
    if (!message.startsWith('READONLY') || performance.now() - last < READ_ONLY_PAUSE_MS) return false;
    last = performance.now();
    return true;
  };
}
