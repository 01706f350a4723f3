import { readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { askLine, LOOPBACK, runLocally, type LocalServer, type LocalServerOptions } from './local-server.js';
import { startAll } from './redis-server.js';
import { DEPLOY } from './render.js';

export interface MemcachedServer extends LocalServer {
  /** As `REPLAY_CACHE` takes it. */
  readonly url: string;
}

export interface MemcachedOptions extends LocalServerOptions {
  /** Further arguments, as `['-m', '2']`; they override the flags. */
  readonly args?: readonly string[];
}

/** A Memcached with the flags of `deploy/memcached.flags`. */
export async function startMemcached({
  args = [],
  ...options
}: MemcachedOptions = {}): Promise<MemcachedServer> {
  const server = await runLocally({
    ...options,
    program: 'memcached',
    prepare: ({ ports: [port] }) => {
      const address = ['-p', String(port), '-l', LOOPBACK, '-u', userInfo().username];
      return [...address, ...memcachedFlags(), ...args];
    },
    isReady: async (port) => (await askLine(port, 'version')).startsWith('VERSION'),
  });
  return { ...server, url: `memcached://${LOOPBACK}:${server.port}` };
}

export interface MemcachedNodes {
  readonly nodes: readonly MemcachedServer[];
  /** As `REPLAY_CACHE` takes it. */
  readonly url: string;
  stop(): Promise<void>;
}

/** Several that know nothing of each other: the client spreads the keys. */
export async function startMemcachedNodes(
  count = 3,
  options: Omit<MemcachedOptions, 'port'> = {},
): Promise<MemcachedNodes> {
  const nodes = await startAll(count, () => startMemcached(options));
  return {
    nodes,
    url: `memcached://${nodes.map(({ port }) => `${LOOPBACK}:${port}`).join(',')}`,
    stop: async () => void (await Promise.all(nodes.map((node) => node.stop()))),
  };
}

export function memcachedFlags(): string[] {
  return readFileSync(join(DEPLOY, 'memcached.flags'), 'utf8').trim().split(/\s+/);
}
