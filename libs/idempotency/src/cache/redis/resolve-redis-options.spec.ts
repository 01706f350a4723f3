import { describe, expect, it } from 'vitest';
import { IdempotencyConfigurationError } from '../../errors/configuration.error.js';
import { redisCache } from './redis.cache.js';
import { resolveRedisOptions } from './resolve-redis-options.js';

function errorOf(options: unknown): IdempotencyConfigurationError {
  try {
    redisCache(options as Parameters<typeof redisCache>[0]);
  } catch (error) {
    if (error instanceof IdempotencyConfigurationError) return error;
    throw error;
  }
  return expect.unreachable('it was accepted');
}

const NODE = { host: '127.0.0.1', port: 6379 };

describe('options of redisCache()', () => {
  it.each([
    ['redis://cache', { host: 'cache', port: 6379 }, {}],
    ['redis://cache:7000/', { host: 'cache', port: 7000 }, {}],
    [
      'redis://app:p%40ss%2Fword@cache:7000/4',
      { host: 'cache', port: 7000 },
      { username: 'app', password: 'p@ss/word', db: 4 },
    ],
    ['redis://:secret@[::1]:7000', { host: '::1', port: 7000 }, { password: 'secret' }],
    ['rediss://cache', { host: 'cache', port: 6379 }, { tls: {} }],
  ])('read %s', (url, where, connection) => {
    const settings = resolveRedisOptions({ url });
    expect(settings.target).toEqual({ kind: 'server', ...where });
    expect(settings.connection).toEqual(connection);
    expect(settings).toMatchObject({ commandTimeoutMs: 1_000, connectTimeoutMs: 2_000 });
  });

  it('take what the URL leaves open from `options`, and TLS settings for rediss', () => {
    const tls = { rejectUnauthorized: true };
    const { connection } = resolveRedisOptions({
      url: 'rediss://app@cache',
      options: { username: 'other', password: 'secret', tls },
    });
    expect(connection).toEqual({ username: 'app', password: 'secret', tls });
  });

  it.each<[string, unknown, string, RegExp]>([
    ['nothing', undefined, 'redisCache', /received undefined\. Use an object with one of url/],
    ['a text', 'redis://:hunter2@cache', 'redisCache', /received a text/],
    ['none of the three', { uri: 'redis://:hunter2@cache' }, 'redisCache', /received \[ 'uri' \]/],
    [
      'two of them',
      { url: 'redis://:hunter2@cache', cluster: [NODE] },
      'redisCache',
      /\[ 'url', 'cluster' \]/,
    ],
    [
      'another protocol',
      { url: 'http://cache' },
      'redisCache.url',
      /received 'http:\/\/cache'\. Use 'redis:/,
    ],
    ['no URL', { url: 'app:hunter2@cache:6379' }, 'redisCache.url', /received '\*\*\*@cache:6379'/],
    ['a broken URL', { url: 'redis://app:hun@ter2@cache:x' }, 'redisCache.url', /'redis:\/\/\*\*\*@cache:x'/],
    ['a password with a bare %', { url: 'redis://:hunter2%zz@cache' }, 'redisCache.url', /as %25/],
    [
      'settings in the URL',
      { url: 'redis://cache?password=hunter2' },
      'redisCache.url',
      /\?\*\*\*.*redisCache\.options/,
    ],
    [
      'a database with a name',
      { url: 'redis://:hunter2@cache/main' },
      'redisCache.url',
      /number of a database/,
    ],
    ['no address', { url: 5 }, 'redisCache.url', /received 5/],
    [
      'an unknown option',
      { url: 'redis://cache', passwort: 'hunter2' },
      'redisCache.passwort',
      /received a text/,
    ],
    ['a name without Sentinels', { url: 'redis://cache', name: 'main' }, 'redisCache.name', /no such option/],
    ['no name', { sentinels: [NODE] }, 'redisCache.name', /received undefined/],
    ['no Sentinels', { sentinels: [], name: 'main' }, 'redisCache.sentinels', /of at least one/],
    ['a URL for a node', { cluster: ['redis://:hunter2@cache'] }, 'redisCache.cluster', /received a text/],
    [
      'a URL for a host',
      { cluster: [{ host: 'redis://:hunter2@cache', port: 1 }] },
      'redisCache.cluster',
      /'host'/,
    ],
    ['no port', { cluster: [{ host: 'cache' }] }, 'redisCache.cluster', /port: 6379/],
    [
      'a port out of range',
      { cluster: [{ host: 'cache', port: 65_536 }] },
      'redisCache.cluster',
      /port: 6379/,
    ],
    [
      'a database of a cluster',
      { cluster: [NODE], options: { db: 1 } },
      'redisCache.options.db',
      /Only username/,
    ],
    [
      'an own queue',
      { url: 'redis://cache', options: { enableOfflineQueue: true } },
      'redisCache.options.enableOfflineQueue',
      /received true\. Only username/,
    ],
    [
      'reads from replicas',
      { cluster: [NODE], clusterOptions: { scaleReads: 'slave' } },
      'redisCache.clusterOptions.scaleReads',
      /Only natMap/,
    ],
    [
      'a password that is no text',
      { url: 'redis://cache', options: { password: ['hunter2'] } },
      'redisCache.options.password',
      /received a list/,
    ],
    ['a time of 0', { url: 'redis://cache', commandTimeout: 0 }, 'redisCache.commandTimeout', /from 10 ms/],
    [
      'a time over a minute',
      { url: 'redis://cache', connectTimeout: '2m' },
      'redisCache.connectTimeout',
      /60000 ms/,
    ],
  ])('refuse %s, and print no password', (_, options, option, message) => {
    const error = errorOf(options);
    expect(error.option).toBe(option);
    expect(error.message).toMatch(message);
    expect(error.message).not.toMatch(/hun|ter2/);
  });

  it('connect to nothing before the cache is started', async () => {
    const cache = redisCache({ url: 'redis://127.0.0.1:1' });
    expect(cache).toMatchObject({ name: 'redis' });
    expect(cache.nodeOf('k')).toBe('127.0.0.1:1');
    await cache.close();
    await cache.close();
  });
});
