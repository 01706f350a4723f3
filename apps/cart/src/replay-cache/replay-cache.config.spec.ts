import { describe, expect, it } from 'vitest';
import { parseReplayCache } from './replay-cache.config.js';

describe('REPLAY_CACHE', () => {
  it.each([
    ['none', { kind: 'none' }],
    ['memory', { kind: 'memory' }],
    ['redis://127.0.0.1:6379', { kind: 'redis', url: 'redis://127.0.0.1:6379' }],
    ['rediss://user:word@cache', { kind: 'redis', url: 'rediss://user:word@cache' }],
    [
      'redis-cluster://a:7001,b:7002, c',
      {
        kind: 'redis-cluster',
        nodes: [
          { host: 'a', port: 7001 },
          { host: 'b', port: 7002 },
          { host: 'c', port: 6379 },
        ],
      },
    ],
    ['memcached://cache-1/', { kind: 'memcached', nodes: [{ host: 'cache-1', port: 11_211 }] }],
  ])('takes %s', (text, choice) => {
    expect(parseReplayCache(text)).toEqual(choice);
  });

  it.each([
    'redis',
    'postgres://a',
    'memcached://',
    'memcached://a:0',
    'memcached://a,,b',
    'redis-cluster://a:99999',
  ])('does not take %s', (text) => {
    expect(parseReplayCache(text)).toBeUndefined();
  });
});
