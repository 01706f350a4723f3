import { inspect } from 'node:util';
import { check, milliseconds } from '../../option-checks.js';
import type {
  RedisAddress,
  RedisCacheOptions,
  RedisClusterCacheOptions,
  RedisClusterSettings,
  RedisConnectionSettings,
  RedisSentinelCacheOptions,
  RedisServerCacheOptions,
} from './redis.options.js';

export interface ServerTarget {
  readonly kind: 'server';
  readonly host: string;
  readonly port: number;
}

export interface SentinelTarget {
  readonly kind: 'sentinel';
  readonly sentinels: readonly RedisAddress[];
  readonly name: string;
}

export interface ClusterTarget {
  readonly kind: 'cluster';
  readonly nodes: readonly RedisAddress[];
  readonly options: RedisClusterSettings;
}

/** The options of `redisCache()`, resolved. */
export interface RedisSettings {
  readonly target: ServerTarget | SentinelTarget | ClusterTarget;
  readonly connection: RedisConnectionSettings;
  readonly commandTimeoutMs: number;
  readonly connectTimeoutMs: number;
}

const DEFAULT_PORT = 6379;

/** What may be set of a connection, by kind of target. */
const SHARED: readonly (keyof RedisConnectionSettings)[] = [
  'username',
  'password',
  'tls',
  'family',
  'connectionName',
];
const CONNECTION: Readonly<Record<Kind, readonly (keyof RedisConnectionSettings)[]>> = {
  url: [...SHARED, 'db'],
  sentinels: [...SHARED, 'db', 'sentinelUsername', 'sentinelPassword', 'sentinelTLS', 'natMap'],
  // Keys of a cluster are all in database 0.
  cluster: SHARED,
};
const CLUSTER: readonly (keyof RedisClusterSettings)[] = [
  'natMap',
  'dnsLookup',
  'useSRVRecords',
  'resolveSrv',
];
const OF_ALL = ['commandTimeout', 'connectTimeout', 'options'];
const OF_KIND = {
  url: ['url'],
  sentinels: ['sentinels', 'name'],
  cluster: ['cluster', 'clusterOptions'],
} as const;
type Kind = keyof typeof OF_KIND;
const KINDS = Object.keys(OF_KIND) as Kind[];

/** @throws {IdempotencyConfigurationError} naming the option, the value received and the fix, and never a password. */
export function resolveRedisOptions(options: RedisCacheOptions): RedisSettings {
  const kind = kindOf(options);
  for (const name of Object.keys(options)) {
    check(
      OF_ALL.includes(name) || (OF_KIND[kind] as readonly string[]).includes(name),
      `redisCache.${name}`,
      kindOfValue(options[name as keyof RedisCacheOptions]),
      `beside ${kind} there is no such option; remove it or correct its spelling`,
    );
  }
  const { commandTimeout = '1s', connectTimeout = '2s', options: connection = {} } = options;
  checkNames('redisCache.options', connection, CONNECTION[kind]);
  for (const name of ['username', 'password', 'sentinelUsername', 'sentinelPassword'] as const) {
    const value = connection[name];
    check(
      value === undefined || typeof value === 'string',
      `redisCache.options.${name}`,
      kindOfValue(value),
      'use a text',
    );
  }
  const limits = { min: 10, max: 60_000 };
  const { found, ...target } = targetOf(kind, options);
  return {
    target,
    connection: { ...connection, ...found },
    commandTimeoutMs: milliseconds('redisCache.commandTimeout', commandTimeout, limits),
    connectTimeoutMs: milliseconds('redisCache.connectTimeout', connectTimeout, limits),
  };
}

function kindOf(options: RedisCacheOptions): Kind {
  const received: unknown = options;
  const fix = 'use an object with one of url, sentinels (and name) and cluster';
  check(typeof received === 'object' && received !== null, 'redisCache', kindOfValue(received), fix);
  const kinds = KINDS.filter((name) => (received as Record<string, unknown>)[name] !== undefined);
  const [kind] = kinds;
  // Names alone: what is under them may hold a password.
  check(kind !== undefined && kinds.length === 1, 'redisCache', Object.keys(received), fix);
  return kind;
}

function targetOf(
  kind: Kind,
  options: RedisCacheOptions,
): RedisSettings['target'] & { found?: RedisConnectionSettings } {
  switch (kind) {
    case 'url':
      return serverAt((options as RedisServerCacheOptions).url, options.options?.tls);
    case 'sentinels': {
      const { sentinels, name } = options as RedisSentinelCacheOptions;
      checkAddresses('redisCache.sentinels', sentinels);
      check(
        typeof name === 'string' && name !== '',
        'redisCache.name',
        name,
        "use the name of the group of servers that the Sentinels watch, as 'mymaster'",
      );
      return { kind: 'sentinel', sentinels, name };
    }
    case 'cluster': {
      const { cluster, clusterOptions = {} } = options as RedisClusterCacheOptions;
      checkAddresses('redisCache.cluster', cluster);
      checkNames('redisCache.clusterOptions', clusterOptions, CLUSTER);
      return { kind: 'cluster', nodes: cluster, options: clusterOptions };
    }
  }
}

function serverAt(
  url: unknown,
  tls: RedisConnectionSettings['tls'],
): ServerTarget & { found: RedisConnectionSettings } {
  const parsed = typeof url === 'string' && URL.canParse(url) ? new URL(url) : undefined;
  const fix = "use 'redis://host:port', 'redis://user:password@host:port/0', or rediss:// with TLS";
  const received = typeof url === 'string' ? withoutSecrets(url) : kindOfValue(url);
  check(
    parsed !== undefined && /^rediss?:$/.test(parsed.protocol) && parsed.hostname !== '',
    'redisCache.url',
    received,
    fix,
  );
  check(
    parsed.search === '' && parsed.hash === '',
    'redisCache.url',
    received,
    'put settings in redisCache.options, not behind the address',
  );
  check(
    /^\/?\d{0,4}$/.test(parsed.pathname),
    'redisCache.url',
    received,
    'the path is the number of a database, from 0',
  );
  const username = decoded(parsed.username, received);
  const password = decoded(parsed.password, received);
  const db = parsed.pathname.replace('/', '');
  return {
    kind: 'server',
    host: parsed.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: parsed.port === '' ? DEFAULT_PORT : Number(parsed.port),
    found: {
      ...(username !== '' && { username }),
      ...(password !== '' && { password }),
      ...(db !== '' && { db: Number(db) }),
      ...(parsed.protocol === 'rediss:' && { tls: tls ?? {} }),
    },
  };
}

function decoded(part: string, received: unknown): string {
  try {
    return decodeURIComponent(part);
  } catch {
    check(false, 'redisCache.url', received, 'write % in a user or password as %25');
  }
}

function checkAddresses(option: string, addresses: unknown): void {
  const fix = "use a list of { host: 'name', port: 6379 }, of at least one";
  check(Array.isArray(addresses) && addresses.length > 0, option, kindOfValue(addresses), fix);
  for (const address of addresses as unknown[]) {
    const { host, port, ...more } = Object(address) as Partial<RedisAddress>;
    const ok = typeof host === 'string' && host !== '' && !/[@/]/.test(host) && isPort(port);
    // What else it holds, or a text, may be a URL with its password.
    const received = typeof address === 'object' ? Object.keys(address ?? {}) : kindOfValue(address);
    check(ok && Object.keys(more).length === 0, option, received, fix);
  }
}

function checkNames(option: string, value: unknown, names: readonly string[]): void {
  const fix = `use an object of ${names.join(', ')}`;
  check(
    typeof value === 'object' && value !== null && !Array.isArray(value),
    option,
    kindOfValue(value),
    fix,
  );
  for (const [name, received] of Object.entries(value)) {
    check(
      names.includes(name),
      `${option}.${name}`,
      kindOfValue(received),
      `only ${names.join(', ')} can be set`,
    );
  }
}

const isPort = (port: unknown): boolean =>
  Number.isInteger(port) && Number(port) > 0 && Number(port) < 65_536;

/** Everything before the last `@`, but for the scheme, and everything behind a `?` may be secret. */
function withoutSecrets(url: string): string {
  return url.replace(/^([a-z]+:\/\/)?.*@/is, '$1***@').replace(/\?.*$/s, '?***');
}

/** What may hold a password is described by what it is. */
function kindOfValue(value: unknown): unknown {
  if (typeof value === 'string' && value !== '') return described('a text');
  if (typeof value !== 'object' || value === null) return value;
  return described(Array.isArray(value) ? 'a list' : 'an object');
}

function described(text: string): unknown {
  return { [inspect.custom]: () => text };
}
