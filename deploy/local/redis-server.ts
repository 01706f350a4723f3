import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { askLine, LOOPBACK, runLocally, type LocalServer, type LocalServerOptions } from './local-server.js';
import { DEPLOY } from './render.js';

export interface RedisServer extends LocalServer {
  /** As `REPLAY_CACHE` takes it. */
  readonly url: string;
  /** Where the nodes of a cluster talk to each other. */
  readonly busPort: number;
}

export interface RedisOptions extends LocalServerOptions {
  /** A node of a cluster that {@link startRedisCluster} makes. @default false */
  readonly cluster?: boolean;
  /** Further arguments, as `['--maxmemory', '2mb']`; they override the configuration. */
  readonly args?: readonly string[];
}

/** A Redis with the configuration of `deploy/redis.conf`. */
export async function startRedis({
  cluster = false,
  args = [],
  ...options
}: RedisOptions = {}): Promise<RedisServer> {
  let busPort = 0;
  const server = await runLocally({
    ...options,
    program: 'redis-server',
    ports: 2,
    prepare: ({ folder, ports: [port, bus] }) => {
      busPort = bus as number;
      const address = ['--port', String(port), '--bind', LOOPBACK, '--dir', folder];
      const role = cluster ? ['--cluster-port', String(bus)] : ['--cluster-enabled', 'no'];
      return [join(DEPLOY, 'redis.conf'), ...address, ...role, ...args];
    },
    isReady: async (port) => (await askLine(port, 'PING')).startsWith('+PONG'),
  });
  return { ...server, busPort, url: `redis://${LOOPBACK}:${server.port}` };
}

export interface RedisCluster {
  readonly nodes: readonly RedisServer[];
  /** As `REPLAY_CACHE` takes it. */
  readonly url: string;
  stop(): Promise<void>;
}

/** A Redis Cluster of masters, each with its share of the slots; every node says that the cluster is ok. */
export async function startRedisCluster(
  count = 3,
  options: Omit<RedisOptions, 'cluster' | 'port'> = {},
): Promise<RedisCluster> {
  const nodes = await startAll(count, () => startRedis({ ...options, cluster: true }));
  const stop = async (): Promise<void> => void (await Promise.all(nodes.map((node) => node.stop())));
  try {
    await promisify(execFile)('sh', [
      join(DEPLOY, 'create-redis-cluster.sh'),
      ...nodes.map(({ port, busPort }) => `${LOOPBACK}:${port}@${busPort}`),
    ]);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    nodes,
    url: `redis-cluster://${nodes.map(({ port }) => `${LOOPBACK}:${port}`).join(',')}`,
    stop,
  };
}

/** Several at once; when one does not start, none is left. */
export async function startAll<Server extends LocalServer>(
  count: number,
  start: () => Promise<Server>,
): Promise<Server[]> {
  const started = await Promise.allSettled(Array.from({ length: count }, start));
  const up = started.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  const failed = started.find((result) => result.status === 'rejected');
  if (failed) {
    await Promise.all(up.map((server) => server.stop()));
    throw failed.reason;
  }
  return up;
}
