import { describe, expect, it } from 'vitest';
import { replayCacheOf } from './replay-cache.js';

const KEY = 'ab'.repeat(32);
const NODES = [{ host: '127.0.0.1', port: 11_211 }];

describe('the cache that was chosen', () => {
  it.each([
    { kind: 'redis', url: 'redis://127.0.0.1:6379' },
    { kind: 'redis-cluster', nodes: NODES },
    { kind: 'memcached', nodes: NODES },
  ] as const)('is waited for as long as the environment says: $kind', async (replayCache) => {
    const settings = { replayCache, replayCacheKey: KEY };

    expect(await replayCacheOf({ ...settings, replayCacheTimeout: '80ms' })).toMatchObject({
      keys: [KEY],
      timeout: '80ms',
    });
    // The library's own default holds.
    expect(await replayCacheOf({ ...settings, replayCacheTimeout: undefined })).not.toHaveProperty('timeout');
  });
});
