import type { IdempotencyEvent } from '../events/idempotency-event.js';
import type { DatabaseClock } from '../store/database-clock.js';
import type { AttemptIdentity } from '../store/identity.js';
import type { StoredResponse } from '../store/record.js';
import { type CacheEntry, EntryCodec } from './entry-codec.js';
import type { GuardedCache } from './guarded-cache.js';
import { InFlightHint } from './in-flight-hint.js';
import type { CachedOutcome, LocalCache } from './local-cache.js';
import { RecentlyInFlight } from './recently-in-flight.js';

/** What the cache knows of a record that was asked for, in every respect that counts. */
export type Known =
  | {
      readonly kind: 'final';
      readonly raised: boolean;
      readonly response: StoredResponse;
      readonly source: 'memory' | 'shared';
    }
  /** A hint that it is in flight: reason enough to refuse a duplicate, none to run anything. */
  | { readonly kind: 'in-flight' };

/** A final outcome as the database has it. */
export interface KeptOutcome {
  readonly raised: boolean;
  readonly response: StoredResponse;
  /** When its record expires, by the database's clock. */
  readonly expiresAtMs: number;
}

export interface ReplayCacheParts {
  /** Names the table, in whatever database: 1 to 32 letters and digits. */
  readonly space: string;
  readonly clock: DatabaseClock;
  readonly memory?: LocalCache | undefined;
  readonly shared?: { readonly cache: GuardedCache; readonly codec: EntryCodec } | undefined;
  /** How long a hint counts; `undefined` gives none, and takes none. */
  readonly inFlightMs: number | undefined;
  readonly emit: (event: IdempotencyEvent) => void;
}

/** How long the mark of an erased record keeps others from putting back what they have read before. */
const ERASED_MS = 3_600_000;
/** About what an outcome takes up beside its body and headers. */
const OVERHEAD_BYTES = 512;
/** Changes with the form of the entries: two versions of the library at work side by side do not meet. */
const KEY_PREFIX = 'idem1';

/**
 * Copies of final outcomes, and hints of what is in flight, beside the database and never instead of it: everything here
 * may be lost, late, or wrong, and then the database is asked. A hit is held to what a row is held to: the record's
 * own key, its fingerprint, its time by the database's clock.
 */
export class ReplayCache {
  readonly #recent = new RecentlyInFlight();
  readonly #asking = new Map<string, Promise<CacheEntry | undefined>>();

  constructor(private readonly parts: ReplayCacheParts) {}

  /** What is known of the record, or nothing. It never rejects. */
  async find({ keyHash, fingerprint }: AttemptIdentity): Promise<Known | undefined> {
    const { memory, shared, clock, inFlightMs } = this.parts;
    const key = this.#keyOf(keyHash);
    const held = memory?.get(key);
    if (held && this.#counts(held, fingerprint)) return knownOf(held, 'memory');
    if (inFlightMs !== undefined && this.#recent.has(key, fingerprint)) return { kind: 'in-flight' };
    // Whoever does not know what time it is in the database cannot tell what counts there.
    if (!shared || clock.latest() === undefined) return undefined;
    const entry = await this.#ask(key, keyHash);
    if (!entry || entry.kind === 'erased' || !this.#counts(entry, fingerprint)) return undefined;
    if (entry.kind === 'final') {
      this.#hold(key, entry);
      return knownOf(entry, 'shared');
    }
    if (inFlightMs === undefined) return undefined;
    this.#recent.note(key, fingerprint);
    return { kind: 'in-flight' };
  }

  /** The database has said that the record is in flight. */
  sawInFlight({ keyHash, fingerprint }: AttemptIdentity): void {
    if (this.parts.inFlightMs !== undefined) this.#recent.note(this.#keyOf(keyHash), fingerprint);
  }

  /** Keeps an outcome that was read from the database. */
  keepRead(identity: AttemptIdentity, outcome: KeptOutcome): void {
    // Only if absent: between our look and now it may have been erased.
    this.#keep(identity, outcome, true);
  }

  /** An attempt of this process begins. The returned function says how it ended; an outcome is kept once it is committed. */
  begin(identity: AttemptIdentity): (outcome: KeptOutcome | undefined) => void {
    const hint = this.#hint(identity);
    return (outcome) => {
      hint?.end(outcome !== undefined);
      this.#recent.forget(this.#keyOf(identity.keyHash));
      if (outcome) this.#keep(identity, outcome, false);
    };
  }

  /**
   * Takes an erased record's copy out of this process and of the shared cache. `false`: the shared cache could not be told, and may
   * keep a copy as long as the record counts.
   */
  async erase(keyHash: Buffer): Promise<boolean> {
    const key = this.#keyOf(keyHash);
    const { memory, shared } = this.parts;
    memory?.delete(key);
    if (!shared) return true;
    return shared.cache.set(key, shared.codec.encode(keyHash, { kind: 'erased' }), { ttlMs: ERASED_MS });
  }

  #hint({ keyHash, fingerprint }: AttemptIdentity): InFlightHint | undefined {
    const { shared, inFlightMs: lifeMs, clock } = this.parts;
    if (!shared || lifeMs === undefined) return undefined;
    const key = this.#keyOf(keyHash);
    const give = (): void => {
      const now = clock.latest();
      if (now === undefined) return;
      const entry = { kind: 'in-flight', fingerprint, expiresAtMs: now + lifeMs } as const;
      void shared.cache.set(key, shared.codec.encode(keyHash, entry), { ttlMs: lifeMs });
    };
    return new InFlightHint({ lifeMs, give, takeBack: () => void shared.cache.delete(key) });
  }

  #keep({ keyHash, fingerprint }: AttemptIdentity, outcome: KeptOutcome, onlyIfAbsent: boolean): void {
    const now = this.parts.clock.latest();
    if (now === undefined) return;
    const ttlMs = Math.floor(outcome.expiresAtMs - now);
    if (ttlMs < 1) return;
    const { raised, response, expiresAtMs } = outcome;
    const key = this.#keyOf(keyHash);
    this.#hold(key, { fingerprint, raised, response, expiresAtMs });
    const { shared } = this.parts;
    if (!shared) return;
    const entry = { kind: 'final', fingerprint, raised, response, expiresAtMs } as const;
    void shared.cache.set(key, shared.codec.encode(keyHash, entry), { ttlMs, onlyIfAbsent });
  }

  #hold(key: string, { fingerprint, expiresAtMs, raised, response }: CachedOutcome): void {
    const { memory } = this.parts;
    if (!memory) return;
    const { status, headers, body } = response;
    const text = JSON.stringify(headers).length;
    // A copy: a small answer would keep the whole network packet that it came in.
    const copy = body && Buffer.concat([body]);
    const outcome = { fingerprint, expiresAtMs, raised, response: { status, headers, body: copy } };
    memory.set(key, outcome, (body?.byteLength ?? 0) + 2 * text + OVERHEAD_BYTES);
  }

  /** One question per key at a time, however many requests ask it. */
  async #ask(key: string, keyHash: Buffer): Promise<CacheEntry | undefined> {
    const asked = this.#asking.get(key);
    if (asked) return asked;
    const asking = this.#fetch(key, keyHash);
    this.#asking.set(key, asking);
    try {
      return await asking;
    } finally {
      this.#asking.delete(key);
    }
  }

  async #fetch(key: string, keyHash: Buffer): Promise<CacheEntry | undefined> {
    const { shared, emit } = this.parts;
    const sealed = await shared?.cache.get(key);
    if (!shared || !sealed) return undefined;
    try {
      return shared.codec.decode(keyHash, sealed);
    } catch (error) {
      emit({
        type: 'cache-entry-refused',
        cache: shared.cache.name,
        keyHash: keyHash.toString('hex'),
        error,
      });
      // It is nobody's answer, and would keep the right one out.
      void shared.cache.delete(key);
      return undefined;
    }
  }

  #counts(
    held: { readonly fingerprint: Buffer; readonly expiresAtMs: number },
    fingerprint: Buffer,
  ): boolean {
    const now = this.parts.clock.latest();
    return now !== undefined && now < held.expiresAtMs && held.fingerprint.equals(fingerprint);
  }

  #keyOf(keyHash: Buffer): string {
    return `${KEY_PREFIX}:${this.parts.space}:${keyHash.toString('base64url')}`;
  }
}

function knownOf({ raised, response }: CachedOutcome, source: 'memory' | 'shared'): Known {
  return { kind: 'final', raised, response, source };
}
