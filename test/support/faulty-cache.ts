import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import net from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Redis } from 'ioredis';
import { type FaultProxy, startFaultProxy } from './fault-proxy.js';
import { type LocalServer, startMemcached, startRedis, type RedisServer } from './topology.js';

/** A cache of three nodes, the first of which can be made to fail in every way. */
export interface FaultyCache {
  readonly url: string;
  readonly first: LocalServer;
  /** The way to the first node. */
  readonly way: FaultProxy;
  /** Writes garbage over everything that the first node holds; resolves with how many values that were. */
  spoil(): Promise<number>;
  flush(): Promise<void>;
  stop(): Promise<void>;
}

const CREATE_CLUSTER = join(import.meta.dirname, '../../deploy/create-redis-cluster.sh');

/** The clients reach the first node by a proxy, which it tells them to use. */
export async function startFaultyRedisCluster(): Promise<FaultyCache> {
  let port = 0;
  const way = await startFaultProxy({ targetPort: () => port });
  const nodes: RedisServer[] = [
    await startRedis({ cluster: true, args: ['--cluster-announce-port', String(way.port)] }),
    await startRedis({ cluster: true }),
    await startRedis({ cluster: true }),
  ];
  const first = nodes[0] as RedisServer;
  port = first.port;
  await promisify(execFile)('sh', [
    CREATE_CLUSTER,
    ...nodes.map((node) => `127.0.0.1:${node.port}@${node.busPort}`),
  ]);
  const direct = new Redis({ port, host: '127.0.0.1', maxRetriesPerRequest: 0, enableOfflineQueue: true });
  direct.on('error', () => undefined);
  return {
    url: `redis-cluster://127.0.0.1:${way.port},${nodes
      .slice(1)
      .map((node) => `127.0.0.1:${node.port}`)
      .join(',')}`,
    first,
    way,
    spoil: async () => {
      const keys = await direct.keys('*');
      await Promise.all(keys.map((key) => direct.set(key, randomBytes(80), 'PX', 60_000)));
      return keys.length;
    },
    flush: async () => void (await direct.flushall()),
    stop: async () => {
      direct.disconnect();
      await way.close();
      await Promise.all(nodes.map((node) => node.stop()));
    },
  };
}

export async function startFaultyMemcachedNodes(): Promise<FaultyCache> {
  const nodes = await Promise.all([startMemcached(), startMemcached(), startMemcached()]);
  const [first, ...others] = nodes as [LocalServer, ...LocalServer[]];
  const way = await startFaultProxy({ targetPort: () => first.port });
  return {
    url: `memcached://127.0.0.1:${way.port},${others.map(({ port }) => `127.0.0.1:${port}`).join(',')}`,
    first,
    way,
    spoil: async () => {
      const dump = await talk(first.port, 'lru_crawler metadump all\r\n', /(?:^|\r?\n)END\r?\n/);
      const keys = [...dump.matchAll(/^key=(\S+)/gm)].map(([, key]) => decodeURIComponent(key as string));
      for (const key of keys) await talk(first.port, `set ${key} 0 60 7\r\ngarbage\r\n`, /STORED\r\n/);
      return keys.length;
    },
    flush: async () => void (await talk(first.port, 'flush_all\r\n', /OK\r\n/)),
    stop: async () => {
      await way.close();
      await Promise.all(nodes.map((node) => node.stop()));
    },
  };
}

/** Sends a command of a text protocol and resolves with the answer, once it ends as it should. */
function talk(port: number, command: string, end: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = '';
    const socket = net.connect(port, '127.0.0.1', () => void socket.write(command));
    socket.setTimeout(5_000, () => socket.destroy(new Error(`no answer to ${command.trim()}: ${answer}`)));
    socket.on('data', (chunk) => {
      answer += chunk.toString('latin1');
      if (!end.test(answer)) return;
      socket.destroy();
      resolve(answer);
    });
    socket.on('error', reject);
  });
}
