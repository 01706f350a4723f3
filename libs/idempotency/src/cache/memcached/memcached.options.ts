import { isIPv6 } from 'node:net';
import type { Duration } from '../../duration.js';
import { check, integer, milliseconds } from '../../option-checks.js';
import { DEFAULT_PORT, type NodeAddress } from './ketama-ring.js';

/** Where the nodes are, and how long to wait for them. */
export interface MemcachedCacheOptions {
  /**
   * Every node, as `'host'`, `'host:port'` or `'[address]:port'`; the port is 11211 by default. The text decides which keys a
   * node has: write a node in one way everywhere, and do not change its name when it moves.
   */
  readonly nodes: readonly string[];
  /**
   * How long an answer may take. A node that takes longer is disconnected, and everything that was asked of it rejects. Too
   * short: a full network costs connections. Too long: a node that hangs is noticed late; callers wait for
   * `replayCache.timeout` at most all the same.
   * @default '1s'
   */
  readonly timeout?: Duration;
  /**
   * How many questions to one node may be without an answer; a further one rejects at once.
   * @default 1000
   */
  readonly maxPending?: number;
  /**
   * What the servers were started with as `-I`, in bytes. Of an item, 187 bytes at most are its key and its header; larger
   * values are not cached.
   * @default 1048576
   */
  readonly maxItemBytes?: number;
}

/** A node, with the text that names it. */
export interface MemcachedAddress extends NodeAddress {
  /** `host:port`, for people. */
  readonly name: string;
}

export interface MemcachedPlan {
  readonly nodes: readonly MemcachedAddress[];
  readonly timeoutMs: number;
  readonly maxPending: number;
  readonly maxValueBytes: number;
}

export const LONGEST_KEY = 128;
/** Measured with memcached 1.6.18, for every `-I` from 1 MB on: header, CAS number, length of the value, line end. */
const ITEM_HEADER_BYTES = 59;
const OVERHEAD = ITEM_HEADER_BYTES + LONGEST_KEY;

/** @throws {IdempotencyConfigurationError} naming the option, the value received and the fix. */
export function resolveMemcached(options: MemcachedCacheOptions): MemcachedPlan {
  check(
    typeof options === 'object' && options !== null,
    'memcachedCache(options)',
    options,
    "use an object, as { nodes: ['cache-1:11211', 'cache-2:11211'] }",
  );
  const { nodes, timeout = '1s', maxPending = 1_000, maxItemBytes = 1_048_576 } = options;
  check(
    Array.isArray(nodes) && nodes.length > 0,
    'memcachedCache({ nodes })',
    nodes,
    "use an array of 'host:port', one for each node",
  );
  const addresses = nodes.map((node, index) => addressOf(node, `memcachedCache({ nodes[${index}] })`));
  addresses.forEach(({ name }, index) =>
    check(
      addresses.findIndex((other) => other.name === name) === index,
      `memcachedCache({ nodes[${index}] })`,
      nodes[index],
      'name every node once',
    ),
  );
  return {
    nodes: addresses,
    timeoutMs: milliseconds('memcachedCache({ timeout })', timeout, { min: 1, max: 60_000 }),
    maxPending: integer('memcachedCache({ maxPending })', maxPending, { min: 1, max: 100_000 }),
    maxValueBytes:
      // From -I 1024 to 1 GB, as memcached has it.
      integer('memcachedCache({ maxItemBytes })', maxItemBytes, { min: 1_024, max: 1_073_741_824 }) -
      OVERHEAD,
  };
}

function addressOf(node: unknown, option: string): MemcachedAddress {
  const fix = "use 'host', 'host:port' or '[IPv6 address]:port', with a port from 1 to 65535";
  const match =
    typeof node === 'string'
      ? /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?$/.exec(node)
      : null;
  const [, address, name] = match ?? [];
  const host = address ?? name;
  const port = match?.[3] === undefined ? DEFAULT_PORT : Number(match[3]);
  check(
    host !== undefined && (address === undefined || isIPv6(address)) && port >= 1 && port <= 65_535,
    option,
    node,
    fix,
  );
  return { host, port, name: address === undefined ? `${host}:${port}` : `[${host}]:${port}` };
}
