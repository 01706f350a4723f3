import { randomBytes, randomUUID } from 'node:crypto';
import { memcachedCache, type MemcachedCacheOptions } from 'nestjs-pg-idempotency/memcached';
import { afterEach, expect, it, onTestFinished } from 'vitest';
import type { SharedCache } from '../libs/idempotency/src/cache/shared-cache.js';
import { describeWith } from './support/servers.js';
import { itKeepsTheContract } from './support/shared-cache-contract.js';
import { askLine, startMemcached, startMemcachedNodes } from './support/topology.js';
import { until } from './support/until.js';

const MINUTE = { ttlMs: 60_000 };
const fresh = (): string => `test:${randomUUID()}`;

describeWith(['memcached'], 'The cache on Memcached', () => {
  const uncaught: unknown[] = [];
  const note = (error: unknown): void => void uncaught.push(error);
  process.on('uncaughtException', note);
  process.on('unhandledRejection', note);
  afterEach(() => expect(uncaught).toEqual([]));

  itKeepsTheContract('on one node', async () => {
    const server = await startMemcached();
    return { cache: memcachedCache({ nodes: [nodeAt(server)] }), close: () => server.stop() };
  });

  itKeepsTheContract('on three nodes', async () => {
    const { nodes, stop } = await startMemcachedNodes(3);
    return { cache: memcachedCache({ nodes: nodes.map(nodeAt) }), close: stop };
  });

  it('spreads keys over all nodes, each on the one that it names', async () => {
    const { nodes, stop } = await startMemcachedNodes(3);
    onTestFinished(stop);
    const names = nodes.map(nodeAt);
    const cache = await opened({ nodes: names });
    const keys = Array.from({ length: 300 }, fresh);
    await Promise.all(keys.map((key) => cache.set(key, Buffer.from(key), MINUTE)));
    for (const name of names) {
      const single = await opened({ nodes: [name] });
      const found = await Promise.all(keys.map((key) => single.get(key)));
      expect(keys.filter((_, index) => found[index])).toEqual(
        keys.filter((key) => cache.nodeOf(key) === name),
      );
      expect(found.filter(Boolean).length).toBeGreaterThan(50);
    }
  });

  it('takes the largest value that the servers take, and refuses a larger one by itself', async () => {
    for (const [flag, maxItemBytes] of [
      ['1m', undefined],
      ['4m', 4 * 1_048_576],
    ] as const) {
      const server = await startMemcached({ args: ['-I', flag, '-m', '128'] });
      onTestFinished(() => server.stop());
      const cache = await opened({ nodes: [nodeAt(server)], ...(maxItemBytes && { maxItemBytes }) });
      const key = 'k'.repeat(128);
      const largest = randomBytes(cache.maxValueBytes as number);
      await cache.set(key, largest, MINUTE);
      expect(Buffer.from((await cache.get(key)) ?? []).equals(largest)).toBe(true);
      await expect(cache.set(key, Buffer.alloc(largest.length + 1), MINUTE)).rejects.toThrow('are the most');
      expect(await cache.get(key)).toHaveLength(largest.length);
      // One byte more is more than the server takes: the limit is exact.
      const generous = await opened({
        nodes: [nodeAt(server)],
        maxItemBytes: (maxItemBytes ?? 1_048_576) + 1,
      });
      await expect(generous.set(key, Buffer.alloc(largest.length + 1), MINUTE)).rejects.toThrow(
        'object too large for cache',
      );
    }
  });

  it('keeps nothing for less than a second, and not what such a value was to replace', async () => {
    const server = await startMemcached();
    onTestFinished(() => server.stop());
    const cache = await opened({ nodes: [nodeAt(server)] });
    const key = fresh();
    await cache.set(key, Buffer.from('1'), MINUTE);
    await cache.set(key, Buffer.from('2'), { ttlMs: 999, onlyIfAbsent: true });
    expect(Buffer.from((await cache.get(key)) ?? []).toString()).toBe('1');
    await cache.set(key, Buffer.from('3'), { ttlMs: 999 });
    expect(await cache.get(key)).toBeUndefined();
  });

  it('keeps a value for 30 days at most, which Memcached still counts from now', async () => {
    const server = await startMemcached();
    onTestFinished(() => server.stop());
    const cache = await opened({ nodes: [nodeAt(server)] });
    expect(cache.maxTtlMs).toBe(30 * 86_400_000);
    const key = fresh();
    await cache.set(key, Buffer.from('x'), { ttlMs: 365 * 86_400_000 });
    expect(await cache.get(key)).toBeDefined();
  });

  it('refuses keys that Memcached would read otherwise, and stays in step', async () => {
    const server = await startMemcached();
    onTestFinished(() => server.stop());
    const cache = await opened({ nodes: [nodeAt(server)] });
    const kept = fresh();
    await cache.set(kept, Buffer.from('x'), MINUTE);
    for (const key of ['', 'a b', 'a\r\nflush_all', 'a\tb', 'ключ', 'k'.repeat(129), 'a/b', 'a\n']) {
      await expect(cache.get(key)).rejects.toThrow('A key is');
      await expect(cache.set(key, Buffer.from('y'), MINUTE)).rejects.toThrow('A key is');
      await expect(cache.delete(key)).rejects.toThrow('A key is');
      expect(await cache.get(kept)).toBeDefined();
    }
  });

  it('has nothing after flush_all, and goes on', async () => {
    const server = await startMemcached();
    onTestFinished(() => server.stop());
    const cache = await opened({ nodes: [nodeAt(server)] });
    const key = fresh();
    await cache.set(key, Buffer.from('x'), MINUTE);
    expect(await askLine(server.port, 'flush_all')).toBe('OK\r\n');
    expect(await cache.get(key)).toBeUndefined();
    await cache.set(key, Buffer.from('y'), MINUTE);
    expect(await cache.get(key)).toBeDefined();
  });

  it.each<[string, MemcachedCacheOptions, RegExp]>([
    ['no nodes', { nodes: [] }, /memcachedCache\(\{ nodes \}\): received \[\]\. Use an array of 'host:port'/],
    ['a text', { nodes: 'cache:11211' as never }, /nodes \}\): received 'cache:11211'/],
    ['a URL', { nodes: ['memcached://cache:11211'] }, /nodes\[0\] \}\): received 'memcached:.*Use 'host'/],
    ['a port', { nodes: ['a', 'b:70000'] }, /nodes\[1\] \}\): received 'b:70000'/],
    ['a bare IPv6 address', { nodes: ['::1'] }, /nodes\[0\] \}\): received '::1'/],
    [
      'a node twice',
      { nodes: ['a', 'a:11211'] },
      /nodes\[1\] \}\): received 'a:11211'\. Name every node once/,
    ],
    ['a timeout', { nodes: ['a'], timeout: '1 s' }, /timeout \}\): received '1 s'\. Use milliseconds/],
    ['questions', { nodes: ['a'], maxPending: 0 }, /maxPending \}\): received 0\. Use an integer from 1/],
    ['an item size', { nodes: ['a'], maxItemBytes: 1.5 }, /maxItemBytes \}\): received 1\.5/],
    ['options', undefined as never, /memcachedCache\(options\): received undefined/],
  ])('refuses %s that it cannot use when it is made', (_, options, message) => {
    expect(() => memcachedCache(options)).toThrow(message);
  });

  it('names nodes with their port', () => {
    expect(memcachedCache({ nodes: ['cache-1'] }).nodeOf('k')).toBe('cache-1:11211');
    expect(memcachedCache({ nodes: ['[::1]:1'] }).nodeOf('k')).toBe('[::1]:1');
  });

  async function opened(options: MemcachedCacheOptions): Promise<SharedCache> {
    const cache = memcachedCache(options);
    onTestFinished(() => cache.close());
    cache.start();
    await until('every node answers', async () => {
      const keys = Array.from({ length: options.nodes.length * 10 }, fresh);
      return Promise.all(keys.map((key) => cache.get(key))).then(
        () => true,
        () => false,
      );
    });
    return cache;
  }
});

function nodeAt({ host, port }: { host: string; port: number }): string {
  return `${host}:${port}`;
}
