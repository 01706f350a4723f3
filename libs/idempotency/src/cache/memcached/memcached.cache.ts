import type { SharedCache, SharedCacheWrite } from '../shared-cache.js';
import { KetamaRing } from './ketama-ring.js';
import { MemcachedNode } from './memcached.node.js';
import type { MemcachedPlan } from './memcached.options.js';

/** Nothing that ends a word or a line of the protocol: a key cannot become a command. */
const KEY = /^[A-Za-z0-9:._-]{1,128}$/;

/** Beyond 30 days Memcached reads a time as one since 1970. */
const MAX_TTL_MS = 30 * 86_400_000;

/**
 * Keys are spread over the nodes by {@link KetamaRing}. The keys of a node that is away are misses, and go to no other: two
 * instances that do not agree about which node is away would write to two places, and one of them would be read when it is old.
 */
export class MemcachedCache implements SharedCache {
  readonly name = 'memcached';
  readonly maxValueBytes: number;
  readonly maxTtlMs = MAX_TTL_MS;
  readonly #ring: KetamaRing;
  readonly #nodes: readonly MemcachedNode[];

  constructor(plan: MemcachedPlan) {
    this.maxValueBytes = plan.maxValueBytes;
    this.#ring = new KetamaRing(plan.nodes);
    this.#nodes = plan.nodes.map((address) => new MemcachedNode(address, plan));
  }

  start(): void {
    for (const node of this.#nodes) node.start();
  }

  nodeOf(key: string): string {
    return this.#nodeOf(key).address.name;
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    checkKey(key);
    return this.#nodeOf(key).connection().get(key);
  }

  async set(
    key: string,
    value: Uint8Array,
    { ttlMs, onlyIfAbsent = false }: SharedCacheWrite,
  ): Promise<void> {
    checkKey(key);
    if (value.byteLength > this.maxValueBytes) {
      throw new Error(`A value of ${value.byteLength} bytes: ${this.maxValueBytes} are the most.`);
    }
    const seconds = Math.floor(Math.min(ttlMs, this.maxTtlMs) / 1_000);
    // 0 would keep it for ever, less than 0 is gone at once. What it was to replace is not kept, either.
    if (!(seconds >= 1)) return onlyIfAbsent ? undefined : this.delete(key);
    const connection = this.#nodeOf(key).connection();
    return onlyIfAbsent ? connection.add(key, value, seconds) : connection.set(key, value, seconds);
  }

  async delete(key: string): Promise<void> {
    checkKey(key);
    return this.#nodeOf(key).connection().delete(key);
  }

  async close(): Promise<void> {
    for (const node of this.#nodes) node.close();
  }

  #nodeOf(key: string): MemcachedNode {
    return this.#nodes[this.#ring.ownerOf(key)] as MemcachedNode;
  }
}

function checkKey(key: string): void {
  if (!KEY.test(key)) throw new Error('A key is 1 to 128 characters of A-Z a-z 0-9 : . _ -');
}
