import { createServer } from 'node:http';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { inject, it, expect, onTestFinished } from 'vitest';
import { send } from './support/http.js';
import { describeWith } from './support/servers.js';
import {
  askLine,
  startMemcachedNodes,
  startNginx,
  startPgBouncer,
  startRedis,
  startRedisCluster,
} from './support/topology.js';
import { until } from './support/until.js';

/** An instance that answers its name. */
async function instance(name: string): Promise<string> {
  const server = createServer((_, response) => response.end(name));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describeWith(['redis-server'], 'a Redis of a test', () => {
  it('answers when it has started, not while it is frozen, and again afterwards', async () => {
    const redis = await startRedis();
    onTestFinished(() => redis.stop());
    expect(await askLine(redis.port, 'PING')).toBe('+PONG\r\n');
    await redis.pause();
    expect(await askLine(redis.port, 'PING', 100)).toBe('');
    redis.resume();
    expect(await askLine(redis.port, 'PING')).toBe('+PONG\r\n');
  });

  it('starts again on its port after a kill, without what it held', async () => {
    const redis = await startRedis();
    onTestFinished(() => redis.stop());
    await askLine(redis.port, 'SET k v');
    await redis.kill();
    expect(await askLine(redis.port, 'PING')).toBe('');
    await redis.restart();
    expect(await askLine(redis.port, 'GET k')).toBe('$-1\r\n');
  });

  it('leaves no process and no folder when it is stopped, frozen or not', async () => {
    const redis = await startRedis();
    await redis.pause();
    await redis.stop();
    expect(redis.isRunning()).toBe(false);
    expect(existsSync(redis.folder)).toBe(false);
  });

  it('is one of three masters of a cluster in which every node knows every slot', async () => {
    const cluster = await startRedisCluster(3);
    onTestFinished(() => cluster.stop());
    for (const { port } of cluster.nodes) {
      const info = await askLine(port, 'CLUSTER INFO');
      expect(info).toContain('cluster_state:ok');
      expect(info).toContain('cluster_slots_assigned:16384');
      expect(info).toContain('cluster_size:3');
    }
  });

  it('comes back to its cluster after a kill', async () => {
    const { nodes, stop } = await startRedisCluster(3);
    onTestFinished(stop);
    const [first, second] = nodes as [(typeof nodes)[number], (typeof nodes)[number]];
    await first.kill();
    await until(
      'it is missed',
      async () => (await askLine(second.port, 'CLUSTER INFO')).includes('cluster_slots_fail:5462'),
      20_000,
    );
    await first.restart();
    for (const { port } of nodes) {
      await until('the cluster is whole', async () => {
        const info = await askLine(port, 'CLUSTER INFO');
        return info.includes('cluster_state:ok') && info.includes('cluster_slots_ok:16384');
      });
    }
  });
});

describeWith(['memcached'], 'Memcached nodes of a test', () => {
  it('answer, each by itself', async () => {
    const { nodes, stop, url } = await startMemcachedNodes(3);
    onTestFinished(stop);
    expect(new Set(nodes.map(({ port }) => port)).size).toBe(3);
    expect(url).toBe(`memcached://${nodes.map(({ port }) => `127.0.0.1:${port}`).join(',')}`);
    for (const { port } of nodes) expect(await askLine(port, 'version')).toMatch(/^VERSION 1\./);
  });
});

describeWith(['nginx'], 'an nginx of a test', () => {
  it('sends requests to its instances in turn, and to others after a reload', async () => {
    const [one, two, three] = (await Promise.all(['one', 'two', 'three'].map(instance))) as [
      string,
      string,
      string,
    ];
    const nginx = await startNginx({ instances: [one, two] });
    onTestFinished(() => nginx.stop());
    const seen = async (): Promise<Set<string>> => {
      const answers = await Promise.all(Array.from({ length: 20 }, () => send(nginx.url, { method: 'GET' })));
      return new Set(answers.map(({ text }) => text));
    };
    expect(await seen()).toEqual(new Set(['one', 'two']));
    await nginx.reload([three]);
    expect(await seen()).toEqual(new Set(['three']));
  });
});

describeWith(['pgbouncer'], 'a PgBouncer of a test', () => {
  it('lets any database of its server be reached, by the same user', async () => {
    const pooler = await startPgBouncer({ serverUrl: inject('postgresUrl'), poolSize: 3 });
    onTestFinished(() => pooler.stop());
    expect(new URL(pooler.url('any')).pathname).toBe('/any');
    const pools = await pooler.show('SHOW POOLS');
    expect(pools.find(({ database }) => database === 'postgres')).toMatchObject({ pool_mode: 'transaction' });
  });
});
