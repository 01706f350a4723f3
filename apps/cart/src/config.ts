import { resolve } from 'node:path';
import type { Duration } from 'nestjs-pg-idempotency';
import {
  parseReplayCache,
  REPLAY_CACHE_FORMS,
  type ReplayCacheChoice,
} from './replay-cache/replay-cache.config.js';

const LOG_LEVELS = ['debug', 'log', 'warn', 'error', 'fatal'] as const;

/** Everything the app takes from its environment. */
export interface CartConfig {
  readonly port: number;
  readonly host: string;
  /** `undefined`: start an embedded PostgreSQL in {@link dataDir}. */
  readonly databaseUrl: string | undefined;
  readonly dataDir: string;
  readonly platform: 'express' | 'fastify';
  readonly onInFlight: 'reject' | 'wait';
  readonly poolSize: number;
  readonly pipeline: boolean;
  readonly paymentProviderUrl: string;
  /** How long an attempt of a checkout counts as alive without a sign of life. */
  readonly leaseTtl: Duration;
  /** How long after it was left behind a checkout is finished without its client; `undefined`: never. */
  readonly completeAfter: Duration | undefined;
  /** Whether this instance sends the confirmations of orders. */
  readonly confirmations: boolean;
  /** Where copies of answers are kept. */
  readonly replayCache: ReplayCacheChoice;
  /** What the copies in a shared cache are sealed with: 32 bytes in hexadecimal or base64. */
  readonly replayCacheKey: string | undefined;
  /** How long a shared cache is waited for; `undefined`: as the library has it. */
  readonly replayCacheTimeout: Duration | undefined;
  /** Whether the `X-Demo-…` headers work. */
  readonly demo: boolean;
  readonly logLevel: (typeof LOG_LEVELS)[number];
}

/** The environment holds values that the app cannot work with; the message names each one and its fix. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/**
 * Reads the configuration. An empty variable counts as absent.
 *
 * @throws ConfigError naming all bad variables at once.
 */
export function readConfig(env: NodeJS.ProcessEnv): CartConfig {
  const problems: string[] = [];
  const read = <T>(name: string, fallback: T, parse: (text: string) => T | undefined, fix: string): T => {
    const text = env[name]?.trim();
    if (text === undefined || text === '') return fallback;
    const value = parse(text);
    if (value !== undefined) return value;
    problems.push(`${name} is ${JSON.stringify(withoutPassword(text))}: ${fix}`);
    return fallback;
  };
  const oneOf = <const T extends string>(name: string, fallback: T, values: readonly T[]): T =>
    read(name, fallback, (text) => values.find((value) => value === text), `use ${orList(values)}.`);
  const integer = (name: string, fallback: number, min: number, max: number): number =>
    read(name, fallback, (text) => wholeNumber(text, min, max), `use a whole number from ${min} to ${max}.`);

  const duration = <T extends Duration | undefined>(name: string, fallback: T): Duration | T =>
    read<Duration | T>(name, fallback, durationText, 'use a number with its unit, as 500ms, 30s or 5m.');

  const config: CartConfig = {
    port: integer('PORT', 3000, 0, 65_535),
    // There is no sign-in here: whoever reaches the port reads and changes every cart.
    host: read('HOST', '127.0.0.1', hostName, 'use an address to listen on, as 127.0.0.1 or 0.0.0.0.'),
    databaseUrl: read<string | undefined>(
      'DATABASE_URL',
      undefined,
      postgresUrl,
      'use postgres://user:password@host:5432/database, or unset it to start an embedded PostgreSQL.',
    ),
    dataDir: resolve(read('DATA_DIR', '.data/postgres', (text) => text, '')),
    platform: oneOf('HTTP_PLATFORM', 'express', ['express', 'fastify']),
    onInFlight: oneOf('ON_IN_FLIGHT', 'reject', ['reject', 'wait']),
    poolSize: integer('POOL_SIZE', 10, 1, 1_000),
    pipeline: oneOf('PIPELINE', 'true', ['true', 'false']) === 'true',
    paymentProviderUrl: read(
      'PAYMENT_PROVIDER_URL',
      'http://127.0.0.1:3001',
      httpUrl,
      'use an address like http://127.0.0.1:3001.',
    ),
    leaseTtl: duration('LEASE_TTL', '30s'),
    completeAfter: duration('COMPLETE_AFTER', undefined),
    confirmations: oneOf('CONFIRMATIONS', 'on', ['on', 'off']) === 'on',
    replayCache: read<ReplayCacheChoice>(
      'REPLAY_CACHE',
      { kind: 'none' },
      parseReplayCache,
      REPLAY_CACHE_FORMS,
    ),
    replayCacheKey: env['REPLAY_CACHE_KEY']?.trim() || undefined,
    replayCacheTimeout: duration('REPLAY_CACHE_TIMEOUT', undefined),
    demo: env['NODE_ENV'] !== 'production',
    logLevel: oneOf('LOG_LEVEL', 'warn', LOG_LEVELS),
  };
  const { replayCache, replayCacheKey } = config;
  if (replayCache.kind !== 'none' && replayCache.kind !== 'memory' && replayCacheKey === undefined) {
    problems.push(
      'REPLAY_CACHE_KEY is missing: a shared cache needs 32 random bytes, the same for all instances; make them with ' +
        '`openssl rand -base64 32`.',
    );
  }
  if (problems.length > 0) {
    throw new ConfigError(`The environment does not fit:\n${problems.map((line) => `  ${line}`).join('\n')}`);
  }
  return config;
}

/** The levels that Nest's logger prints at `level`: that one and the graver ones. */
export function logLevelsFrom(level: CartConfig['logLevel']): CartConfig['logLevel'][] {
  return LOG_LEVELS.slice(LOG_LEVELS.indexOf(level));
}

/** Server and database of a connection string, safe to print. */
export function describeDatabase(url: string): string {
  const { hostname, port, pathname, searchParams } = new URL(url);
  const host = hostname === '' ? (searchParams.get('host') ?? 'localhost') : hostname;
  return `${host}:${port === '' ? '5432' : port}${pathname === '' ? '/' : pathname}`;
}

/** Whatever may be a credential is left out: what is quoted here did not parse, so its parts cannot be told apart. */
function withoutPassword(text: string): string {
  return text.replace(/^([a-z]+:?\/\/)?.*@/i, '$1***@').replace(/(password=)\S+/gi, '$1***');
}

function wholeNumber(text: string, min: number, max: number): number | undefined {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : NaN;
  return value >= min && value <= max ? value : undefined;
}

function hostName(text: string): string | undefined {
  return /^[\w.:%-]+$/.test(text) ? text : undefined;
}

function postgresUrl(text: string): string | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  return url && ['postgres:', 'postgresql:'].includes(url.protocol) ? text : undefined;
}

function httpUrl(text: string): string | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  // What stands behind the path would swallow what is put behind it.
  const isPlain = url?.search === '' && url.hash === '' && url.username === '' && url.password === '';
  return isPlain && ['http:', 'https:'].includes(url.protocol) ? text : undefined;
}

function durationText(text: string): Duration | undefined {
  return /^\d{1,9}(ms|s|m|h|d)$/.test(text) && !/^0+\D/.test(text) ? (text as Duration) : undefined;
}

function orList(values: readonly string[]): string {
  return `${values.slice(0, -1).join(', ')} or ${values.at(-1)}`;
}
