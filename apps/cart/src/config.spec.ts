import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ConfigError, describeDatabase, logLevelsFrom, readConfig } from './config.js';

const messageOf = (env: NodeJS.ProcessEnv): string => {
  try {
    readConfig(env);
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  throw new Error('accepted');
};

describe('readConfig', () => {
  it('needs nothing', () => {
    expect(readConfig({})).toEqual({
      port: 3000,
      host: '127.0.0.1',
      databaseUrl: undefined,
      dataDir: resolve('.data/postgres'),
      platform: 'express',
      onInFlight: 'reject',
      poolSize: 10,
      pipeline: true,
      paymentProviderUrl: 'http://127.0.0.1:3001',
      leaseTtl: '30s',
      completeAfter: undefined,
      confirmations: true,
      replayCache: { kind: 'none' },
      replayCacheKey: undefined,
      replayCacheTimeout: undefined,
      demo: true,
      logLevel: 'warn',
    });
  });

  it('asks for the key that a shared cache needs, and says how to make one', () => {
    expect(messageOf({ REPLAY_CACHE: 'redis://127.0.0.1' })).toMatch(
      /REPLAY_CACHE_KEY is missing: .*openssl rand/,
    );
    expect(readConfig({ REPLAY_CACHE: 'memory' }).replayCache).toEqual({ kind: 'memory' });
  });

  it('takes an empty variable for an absent one', () => {
    expect(readConfig({ PORT: '', DATABASE_URL: ' ', HOST: '' })).toEqual(readConfig({}));
  });

  it('reads every variable', () => {
    const databaseUrl = 'postgresql://app:secret@db.internal:6432/carts?sslmode=require';
    expect(
      readConfig({
        PORT: '0',
        HOST: '0.0.0.0',
        DATABASE_URL: databaseUrl,
        DATA_DIR: '/srv/pg',
        HTTP_PLATFORM: 'fastify',
        ON_IN_FLIGHT: 'wait',
        POOL_SIZE: '40',
        PIPELINE: 'false',
        PAYMENT_PROVIDER_URL: 'https://pay.example.com/v1/',
        LEASE_TTL: '1500ms',
        COMPLETE_AFTER: '5m',
        CONFIRMATIONS: 'off',
        REPLAY_CACHE: 'memcached://cache-1,cache-2:11212',
        REPLAY_CACHE_KEY: 'ab'.repeat(32),
        REPLAY_CACHE_TIMEOUT: '80ms',
        NODE_ENV: 'production',
        LOG_LEVEL: 'debug',
      }),
    ).toEqual({
      port: 0,
      host: '0.0.0.0',
      databaseUrl,
      dataDir: resolve('/srv/pg'),
      platform: 'fastify',
      onInFlight: 'wait',
      poolSize: 40,
      pipeline: false,
      paymentProviderUrl: 'https://pay.example.com/v1/',
      leaseTtl: '1500ms',
      completeAfter: '5m',
      confirmations: false,
      replayCache: {
        kind: 'memcached',
        nodes: [
          { host: 'cache-1', port: 11_211 },
          { host: 'cache-2', port: 11_212 },
        ],
      },
      replayCacheKey: 'ab'.repeat(32),
      replayCacheTimeout: '80ms',
      demo: false,
      logLevel: 'debug',
    });
  });

  it.each([
    ['PORT', 'http'],
    ['PORT', '65536'],
    ['PORT', '-1'],
    ['PORT', '30.5'],
    ['HOST', 'http://localhost'],
    ['DATABASE_URL', 'localhost:5432/carts'],
    ['DATABASE_URL', 'mysql://localhost/carts'],
    ['HTTP_PLATFORM', 'koa'],
    ['ON_IN_FLIGHT', 'WAIT'],
    ['POOL_SIZE', '0'],
    ['PIPELINE', 'yes'],
    ['PAYMENT_PROVIDER_URL', '127.0.0.1:3001'],
    ['PAYMENT_PROVIDER_URL', 'ftp://pay.example.com'],
    ['PAYMENT_PROVIDER_URL', 'https://pay.example.com/#v1'],
    ['LEASE_TTL', '30'],
    ['REPLAY_CACHE_TIMEOUT', '80'],
    ['LEASE_TTL', '0s'],
    ['COMPLETE_AFTER', '5 minutes'],
    ['CONFIRMATIONS', 'true'],
    ['LOG_LEVEL', 'loud'],
  ])('refuses %s=%s, naming the variable, the value and the fix', (name, value) => {
    expect(messageOf({ [name]: value })).toMatch(
      new RegExp(`${name} is ${JSON.stringify(value).replaceAll(/[.+]/g, '\\$&')}: use .+`),
    );
  });

  it('names all bad variables at once', () => {
    const message = messageOf({ PORT: 'x', POOL_SIZE: 'y' });
    expect(message).toContain('PORT');
    expect(message).toContain('POOL_SIZE');
  });

  it.each([
    ['mysql://app:s3:cr@t@db/carts', 'mysql://***@db/carts'],
    ['postgres//app:s3:cr@t@db/carts', 'postgres//***@db/carts'],
    ['app:s3:cr@t@db', '***@db'],
    ['host=db password=s3:cr', 'host=db password=***'],
  ])('prints no password: %s', (databaseUrl, printed) => {
    expect(messageOf({ DATABASE_URL: databaseUrl })).toContain(`DATABASE_URL is "${printed}": use `);
  });
});

describe('describeDatabase', () => {
  it.each([
    ['postgres://app:secret@db.internal:6432/carts', 'db.internal:6432/carts'],
    ['postgres://db.internal/carts?sslmode=require', 'db.internal:5432/carts'],
    ['postgres:///carts?host=/var/run/postgresql', '/var/run/postgresql:5432/carts'],
  ])('%s', (url, expected) => {
    expect(describeDatabase(url)).toBe(expected);
  });
});

describe('logLevelsFrom', () => {
  it('takes the level and the graver ones', () => {
    expect(logLevelsFrom('warn')).toEqual(['warn', 'error', 'fatal']);
  });
});
