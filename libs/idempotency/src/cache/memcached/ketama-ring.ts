import { createHash } from 'node:crypto';

/** A node, as it is written in the list of nodes; an IPv6 address stands without brackets. */
export interface NodeAddress {
  readonly host: string;
  readonly port: number;
}

/** libmemcached leaves it out of what it hashes. */
export const DEFAULT_PORT = 11211;

const POINTS_PER_NODE = 160;
/** One MD5 gives four points. */
const POINTS_PER_HASH = 4;

/**
 * Which node has a key: consistent hashing as libmemcached does it with `MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED`, where all
 * nodes weigh the same. The mapping is equal, key for key, so that clients in other languages find the same node.
 */
export class KetamaRing {
  /** Ascending. */
  readonly #points: Uint32Array;
  /** The node of each point, by its place in the list. */
  readonly #owners: Uint32Array;

  constructor(nodes: readonly NodeAddress[]) {
    const hashes = pointsPerNode(nodes.length) / POINTS_PER_HASH;
    const points = nodes.flatMap(({ host, port }, owner) => {
      const name = port === DEFAULT_PORT ? host : `${host}:${port}`;
      return Array.from({ length: hashes }, (_, index) => md5(`${name}-${index}`)).flatMap((digest) =>
        Array.from({ length: POINTS_PER_HASH }, (_, part) => ({ at: digest.readUInt32LE(part * 4), owner })),
      );
    });
    // Two points at one place are as good as impossible; the sort is stable, so the first in the list has it.
    points.sort((a, b) => a.at - b.at);
    this.#points = Uint32Array.from(points, ({ at }) => at);
    this.#owners = Uint32Array.from(points, ({ owner }) => owner);
  }

  /** The place in the list of the node that has the key: that of the first point from its hash on, round the ring. */
  ownerOf(key: string): number {
    const hash = md5(key).readUInt32LE(0);
    let low = 0;
    let high = this.#points.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#points[middle] as number) < hash) low = middle + 1;
      else high = middle;
    }
    return this.#owners[low === this.#points.length ? 0 : low] as number;
  }
}

/**
 * libmemcached counts in 32-bit floats and rounds down, and so comes to 156 points where there are 25 or 47 nodes, for
 * example. Doubles do so for other counts, and then give 2 to 3 of 100 keys to another node.
 */
function pointsPerNode(count: number): number {
  const share = Math.fround(1 / count);
  const hashes = Math.fround(Math.fround(share * POINTS_PER_NODE) / POINTS_PER_HASH);
  return Math.floor(Math.fround(hashes * count)) * POINTS_PER_HASH;
}

function md5(text: string): Buffer {
  return createHash('md5').update(text).digest();
}
