import { type RedisCacheOptions, redisCache } from 'nestjs-pg-idempotency/redis';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, onTestFinished, vi } from 'vitest';
import type { SharedCache } from '../libs/idempotency/src/cache/shared-cache.js';
import { slotOf } from '../libs/idempotency/src/cache/redis/key-slot.js';
import { answers, closing, fresh, read, settled, write } from './support/cache-questions.js';
import { logLines } from './support/log-lines.js';
import { exitAfter } from './support/redis-process.js';
import { describeWith } from './support/servers.js';
import { itKeepsTheContract } from './support/shared-cache-contract.js';
import { askLine, startRedisCluster, type RedisCluster, type RedisServer } from './support/topology.js';
import { until } from './support/until.js';

let lines: string[];
beforeEach(() => (lines = logLines()));
afterEach(() => vi.restoreAllMocks());

const optionsOf = (cluster: RedisCluster): RedisCacheOptions => ({
  cluster: cluster.nodes.map(({ host, port }) => ({ host, port })),
  commandTimeout: '300ms',
});
const addressOf = ({ host, port }: RedisServer): string => `${host}:${port}`;

/** A key that this node has. */
async function keyOn(cache: SharedCache, node: RedisServer): Promise<string> {
  return until('a key of the node', () => {
    const key = fresh();
    return cache.nodeOf(key) === addressOf(node) ? key : undefined;
  });
}

/** A cache that is connected to every node, and is closed with the test. */
async function openAll(cluster: RedisCluster, options = optionsOf(cluster)): Promise<SharedCache> {
  const cache = redisCache(options);
  onTestFinished(() => cache.close());
  cache.start();
  await answers(cache);
  for (const node of cluster.nodes) await answers(cache, await keyOn(cache, node));
  return cache;
}

describeWith(['redis-server'], 'a cache in a Redis Cluster', () => {
  let cluster: RedisCluster;
  let nodes: [RedisServer, RedisServer, RedisServer];
  beforeAll(async () => {
    cluster = await startRedisCluster(3);
    nodes = cluster.nodes as typeof nodes;
  });
  afterAll(() => cluster.stop());
  afterEach(async () => {
    for (const node of nodes) {
      if (node.isRunning()) node.resume();
      else await node.restart();
    }
    await until(
      'the cluster is whole',
      async () => {
        const infos = await Promise.all(nodes.map(({ port }) => askLine(port, 'CLUSTER INFO')));
        return infos.every((info) => info.includes('cluster_slots_ok:16384'));
      },
      30_000,
    );
  });

  itKeepsTheContract('on three masters', async () => {
    const own = await startRedisCluster(3);
    const cache = redisCache({ ...optionsOf(own), commandTimeout: '2s' });
    cache.start();
    await answers(cache);
    for (const node of own.nodes) await answers(cache, await keyOn(cache, node));
    return { cache, close: () => own.stop() };
  });

  it('tells the node that has a key, as the cluster does, and nothing while it is not connected', async () => {
    const unused = redisCache(optionsOf(cluster));
    onTestFinished(() => unused.close());
    expect(unused.nodeOf(fresh())).toBe('');
    const cache = await openAll(cluster);
    const told = new Set<string>();
    for (let round = 0; round < 50; round += 1) {
      const key = fresh();
      expect(await askLine(nodes[0].port, `CLUSTER KEYSLOT ${key}`)).toBe(`:${slotOf(key)}\r\n`);
      await write(cache, key, 'x');
      const node = nodes.find((candidate) => addressOf(candidate) === cache.nodeOf(key)) as RedisServer;
      expect(await askLine(node.port, `EXISTS ${key}`)).toBe(':1\r\n');
      told.add(addressOf(node));
    }
    expect(told.size).toBe(3);
  });

  it.each([
    ['killed', async (node: RedisServer): Promise<void> => node.kill()],
    ['frozen', async (node: RedisServer): Promise<void> => node.pause()],
  ])(
    'answers for the keys of the others when a node is %s, refuses its keys, and has it back',
    async (how, fail) => {
      const cache = await openAll(cluster);
      const keys = [await keyOn(cache, nodes[0]), await keyOn(cache, nodes[1]), await keyOn(cache, nodes[2])];
      const [lost, ...kept] = keys as [string, string, string];
      for (const key of keys) await write(cache, key, key);
      await fail(nodes[0]);
      // The first ones to a frozen node wait for their time.
      expect(await settled(cache.get(lost))).toBe('rejected');
      const times: number[] = [];
      const begun = performance.now();
      // Through the time in which the other nodes find out too.
      while (performance.now() - begun < 4_000) {
        for (const key of kept) expect(await read(cache, key)).toBe(key);
        const at = performance.now();
        expect(await settled(cache.get(lost))).toBe('rejected');
        times.push(performance.now() - at);
        expect(cache.nodeOf(lost)).toBe(addressOf(nodes[0]));
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      expect(times.length).toBeGreaterThan(100);
      expect(times.toSorted((a, b) => a - b)[Math.floor(times.length * 0.95)]).toBeLessThan(50);
      expect(Math.max(...times)).toBeLessThan(1_000);
      expect(lines).toEqual([
        expect.stringMatching(
          `^warn: the Redis node at ${addressOf(nodes[0])} cannot be reached: .+; requests are answered from PostgreSQL$`,
        ),
      ]);

      if (how === 'killed') await nodes[0].restart();
      else nodes[0].resume();
      await answers(cache, lost, 20_000);
      expect(await read(cache, lost)).toBe(how === 'killed' ? undefined : lost);
      await write(cache, lost, 'again');
      expect(await read(cache, lost)).toBe('again');
      expect(lines.slice(1)).toEqual([`log: the Redis node at ${addressOf(nodes[0])} is back`]);
    },
  );

  it('holds nothing for a node that is away: all that is asked meanwhile is refused at once', async () => {
    const cache = await openAll(cluster);
    const lost = await keyOn(cache, nodes[1]);
    await nodes[1].kill();
    await until('it is told', () => lines.length > 0);
    const begun = performance.now();
    const asked = await Promise.all(Array.from({ length: 5_000 }, () => settled(write(cache, lost, 'late'))));
    expect(performance.now() - begun).toBeLessThan(1_500);
    expect(new Set(asked)).toEqual(new Set(['rejected']));
    await nodes[1].restart();
    await answers(cache, lost, 20_000);
    expect(await read(cache, lost)).toBeUndefined();
  });

  it('follows a slot that moves to another node', async () => {
    const cache = await openAll(cluster);
    const key = await keyOn(cache, nodes[2]);
    await write(cache, key, 'before');
    const slot = slotOf(key);
    const id = async (node: RedisServer): Promise<string> =>
      (await askLine(node.port, 'CLUSTER MYID')).split('\r\n')[1] as string;
    const [from, to] = [nodes[2], nodes[0]];
    const give = async (owner: RedisServer): Promise<void> => {
      const ownerId = await id(owner);
      // The new owner first, as redis-cli does it; what the old one had of it is gone.
      for (const node of [owner, ...nodes.filter((other) => other !== owner)]) {
        await askLine(node.port, `DEL ${key}`);
        expect(await askLine(node.port, `CLUSTER SETSLOT ${slot} NODE ${ownerId}`)).toBe('+OK\r\n');
      }
    };
    await give(to);
    onTestFinished(() => give(from));
    expect(await read(cache, key)).toBeUndefined();
    await write(cache, key, 'after');
    expect(await askLine(to.port, `EXISTS ${key}`)).toBe(':1\r\n');
    expect(cache.nodeOf(key)).toBe(addressOf(to));
  });

  it('finds the cluster again when all of it was away for long', async () => {
    const cache = await openAll(cluster);
    const key = await keyOn(cache, nodes[0]);
    for (const node of nodes) await node.kill();
    const begun = performance.now();
    await until(
      'it is looked for from the beginning',
      async () => {
        expect(await settled(cache.get(key))).toBe('rejected');
        return lines.some((line) => line.includes('the Redis Cluster at')) ? true : undefined;
      },
      20_000,
    );
    expect(performance.now() - begun).toBeGreaterThan(4_000);
    expect(lines.length).toBeLessThanOrEqual(4);
    for (const node of nodes) await node.restart();
    await answers(cache, key, 20_000);
    await write(cache, key, 'x');
    expect(await read(cache, key)).toBe('x');
  });

  it('refuses at once while no node listens, and works when they come up', async () => {
    for (const node of nodes) await node.kill();
    const cache = redisCache(optionsOf(cluster));
    onTestFinished(() => cache.close());
    cache.start();
    const begun = performance.now();
    const asked = Array.from({ length: 1_000 }, () => settled(cache.get(fresh())));
    expect(new Set(await Promise.all(asked))).toEqual(new Set(['rejected']));
    expect(performance.now() - begun).toBeLessThan(500);
    await until('it is told', () => lines.length > 0);
    expect(lines).toEqual([
      expect.stringMatching(/^warn: the Redis Cluster at .* cannot be reached: Connection is closed;/),
    ]);
    for (const node of nodes) await node.restart();
    await answers(cache, undefined, 20_000);
    expect(lines[1]).toMatch(/^log: the Redis Cluster at .* is back$/);
  });

  it('tells in the log that the password is wrong, and not the password', async () => {
    const own = await startRedisCluster(3);
    onTestFinished(() => own.stop());
    for (const { port } of own.nodes) await askLine(port, 'CONFIG SET requirepass right-secret');
    const wrong = redisCache({ ...optionsOf(own), options: { password: 'wrong-secret' } });
    onTestFinished(() => wrong.close());
    wrong.start();
    await until('it is told', () => lines.length > 0);
    expect(lines).toEqual([
      expect.stringMatching(/^warn: the Redis Cluster at .* cannot be reached: WRONGPASS/),
    ]);
    expect(lines.join('\n')).not.toContain('secret');
    expect(await settled(wrong.get(fresh()))).toBe('rejected');
    await openAll(own, { ...optionsOf(own), options: { password: 'right-secret' } });
  });

  it('answers 2,000 questions at a time, each its own', async () => {
    const cache = await openAll(cluster, {
      ...optionsOf(cluster),
      commandTimeout: '5s',
    });
    const keys = Array.from({ length: 2_000 }, fresh);
    await Promise.all(keys.map((key) => write(cache, key, key)));
    expect(await Promise.all(keys.map((key) => read(cache, key)))).toEqual(keys);
  });

  it('ends at once what is under way when it is closed', async () => {
    const cache = await openAll(cluster, {
      ...optionsOf(cluster),
      commandTimeout: '60s',
    });
    await Promise.all(nodes.map((node) => node.pause()));
    const underWay = Array.from({ length: 50 }, () => settled(cache.get(fresh())));
    expect(await closing(cache, underWay)).toBeLessThan(500);
    expect(new Set(await Promise.all(underWay))).toEqual(new Set(['rejected']));
    await cache.close();
    await expect(cache.get(fresh())).rejects.toThrow('closed');
  });

  it.each(['frozen', 'up', 'away', 'unused'] as const)(
    'lets the process end, closed when it is %s',
    async (state) => {
      if (state === 'away') for (const node of nodes) await node.kill();
      const { code, tookMs } = await exitAfter(optionsOf(cluster), state, () =>
        Promise.all(nodes.map((node) => node.pause())),
      );
      expect(code).toBe(0);
      expect(tookMs).toBeLessThan(1_500);
    },
  );
});
