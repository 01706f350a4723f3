import type { IdempotencyEvent } from '../events/idempotency-event.js';
import { NodeGuard, NodeUnavailableError } from './node-guard.js';
import type { SharedCache, SharedCacheWrite } from './shared-cache.js';

/** Nodes beyond that share a guard: nobody's list of nodes may grow for ever. */
const MAX_NODES = 256;
/** How long a shutdown waits for the cache to end its connections. */
const CLOSE_MS = 1_000;

export interface GuardedCacheParts {
  readonly cache: SharedCache;
  readonly timeoutMs: number;
  readonly emit: (event: IdempotencyEvent) => void;
}

/**
 * A shared cache that cannot hold anybody up: every operation is over in time, a node that fails is left alone while the
 * others are asked, and no failure is thrown. What is wrong with it is told as an event.
 */
export class GuardedCache {
  readonly #guards = new Map<string, NodeGuard>();
  readonly #maxValueBytes: number;
  readonly #maxTtlMs: number;
  #isClosed = false;

  constructor(private readonly parts: GuardedCacheParts) {
    const { maxValueBytes = Infinity, maxTtlMs = Infinity } = parts.cache;
    this.#maxValueBytes = maxValueBytes;
    this.#maxTtlMs = maxTtlMs;
  }

  get name(): string {
    return this.parts.cache.name;
  }

  start(): void {
    const { cache, emit } = this.parts;
    try {
      cache.start();
    } catch (error) {
      emit({ type: 'cache-unavailable', cache: cache.name, node: '', error });
    }
  }

  /** The value, or nothing: because there is none, or because the cache does not say. */
  async get(key: string): Promise<Uint8Array | undefined> {
    try {
      return await this.#run(key, () => this.parts.cache.get(key));
    } catch {
      return undefined;
    }
  }

  /** Whether the cache has taken it; a value that is too large is not offered. */
  async set(key: string, value: Uint8Array, { ttlMs, onlyIfAbsent }: SharedCacheWrite): Promise<boolean> {
    const bounded = Math.floor(Math.min(ttlMs, this.#maxTtlMs));
    if (bounded < 1 || value.byteLength > this.#maxValueBytes) return false;
    const write = onlyIfAbsent ? { ttlMs: bounded, onlyIfAbsent } : { ttlMs: bounded };
    try {
      await this.#run(key, () => this.parts.cache.set(key, value, write));
      return true;
    } catch {
      return false;
    }
  }

  /** Whether the cache has said that it is gone. */
  async delete(key: string): Promise<boolean> {
    try {
      await this.#run(key, () => this.parts.cache.delete(key));
      return true;
    } catch {
      return false;
    }
  }

  /** Nothing is asked any more, and no shutdown waits for a cache that does not come to an end. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const guard of this.#guards.values()) guard.close();
    const { cache } = this.parts;
    const closed = Promise.resolve()
      .then(() => cache.close())
      .catch(() => undefined);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise((resolve) => (timer = setTimeout(resolve, CLOSE_MS)));
    await Promise.race([closed, late]);
    clearTimeout(timer);
  }

  async #run<T>(key: string, operation: () => Promise<T>): Promise<T> {
    if (this.#isClosed) throw new NodeUnavailableError('the cache is closed');
    const { cache } = this.parts;
    return this.#guardOf(cache.nodeOf(key)).run(operation, () => cache.get(key));
  }

  #guardOf(node: string): NodeGuard {
    const name = this.#guards.has(node) || this.#guards.size < MAX_NODES ? node : '';
    let guard = this.#guards.get(name);
    if (!guard) {
      const { timeoutMs, emit, cache } = this.parts;
      const onChange = (cause: unknown): void => {
        const which = { cache: cache.name, node: name };
        emit(
          cause === undefined
            ? { type: 'cache-available', ...which }
            : { type: 'cache-unavailable', error: cause, ...which },
        );
      };
      guard = new NodeGuard({ timeoutMs, onChange });
      this.#guards.set(name, guard);
    }
    return guard;
  }
}
