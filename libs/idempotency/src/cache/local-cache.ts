import type { StoredResponse } from '../store/record.js';

/** A final outcome as a cache holds it. */
export interface CachedOutcome {
  readonly fingerprint: Buffer;
  /** When the record expires, by the database's clock, in milliseconds since 1970. */
  readonly expiresAtMs: number;
  /** The handler threw it. */
  readonly raised: boolean;
  readonly response: StoredResponse;
}

/**
 * A cache of this process: what is in it is as it was put there, and is answered at once. It may forget anything at any
 * moment, and must not keep anything for longer than a person's erasure of a record may take to reach this process.
 */
export interface LocalCache {
  get(key: string): CachedOutcome | undefined;
  /** `bytes` is about what the outcome takes up. */
  set(key: string, outcome: CachedOutcome, bytes: number): void;
  delete(key: string): void;
}
