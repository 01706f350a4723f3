/** How long a value is kept, and whether it may take the place of another. */
export interface SharedCacheWrite {
  /** In milliseconds, an integer from 1. A cache that counts in seconds rounds down, and does not keep what comes to none. */
  readonly ttlMs: number;
  /** Leaves what stands under the key as it is; nobody is told whether something did. @default false */
  readonly onlyIfAbsent?: boolean;
}

/**
 * A cache that the instances of an application share: bytes under a key, for a time. It is never an authority: it may
 * forget anything at any moment, answer late or not at all, and what it answers is believed only if it is sealed with the
 * module's key for the very record that was asked for.
 *
 * Every method may reject, for any reason; that counts as a miss, or as a value that was not kept. None may block start
 * or shutdown: a cache that cannot be reached is one that is empty. What has been asked and not answered is bounded by
 * the caller, who does not wait for longer than `replayCache.timeout`, asks a part of the cache that fails less often, and
 * has no more than a fixed number of operations under way. An implementation must hold no queue of its own for a server that
 * is away: it rejects at once.
 */
export interface SharedCache {
  /** In lower case, for logs and events: `redis`, `memcached`. */
  readonly name: string;
  /** The largest value that it keeps, in bytes. A larger one is never offered. @default no limit */
  readonly maxValueBytes?: number;
  /** The longest time that it keeps a value for, in milliseconds. What would be kept for longer is kept for so long. @default no limit */
  readonly maxTtlMs?: number;
  /** Begins to connect. It must not throw, and nobody waits for it. */
  start(): void;
  /**
   * The part of the cache (a node) that has the key: of several the others work on when one fails. An empty text while
   * that is not known. It must not throw, and takes no time.
   */
  nodeOf(key: string): string;
  /** The value as it was written, or `undefined`. Keys are 1 to 128 characters of `A-Z a-z 0-9 : . _ -`. */
  get(key: string): Promise<Uint8Array | undefined>;
  set(key: string, value: Uint8Array, write: SharedCacheWrite): Promise<void>;
  delete(key: string): Promise<void>;
  /** Ends every connection at once, asked for nothing any more. It must not reject, and may be called twice. */
  close(): Promise<void>;
}
