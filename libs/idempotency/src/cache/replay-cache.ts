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
/** For so long a process takes the database's word that a record is in flight. */
const DATABASE_WORD_MS = 100;
/** The same of the shared cache's word, where it has said so twice in that time. */
const SHARED_WORD_MS = 20;
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
  readonly #recent = new RecentlyInFlight(DATABASE_WORD_MS);
  /** Keys with a duplicate a moment ago, and those with so many that the shared cache is not asked for each. */
  readonly #duplicated = new RecentlyInFlight(SHARED_WORD_MS);
  readonly #storms = new RecentlyInFlight(SHARED_WORD_MS);
  readonly #asking = new Map<string, Promise<CacheEntry | undefined>>();
  /** How many records were erased through this process: what was read before may be of one of them. */
  #erasures = 0;

  constructor(private readonly parts: ReplayCacheParts) {}

  /** What is known of the record, or nothing. It never rejects. */
  async find({ keyHash, fingerprint }: AttemptIdentity): Promise<Known | undefined> {
    const { memory, shared, clock, inFlightMs } = this.parts;
    const key = this.#keyOf(keyHash);
    const held = memory?.get(key);
    if (held && this.#counts(held, fingerprint)) return knownOf(held, 'memory');
    if (this.#storms.has(key, fingerprint)) return { kind: 'in-flight' };
    const wasInFlight = (): Known | undefined =>
      inFlightMs !== undefined && this.#recent.has(key, fingerprint) ? { kind: 'in-flight' } : undefined;
    // Whoever does not know what time it is in the database cannot tell what counts there.
    if (!shared || clock.latest() === undefined) return wasInFlight();
    const erasures = this.#erasures;
    const entry = await this.#ask(key, keyHash);
    if (erasures !== this.#erasures) return undefined;
    // What this process was told itself comes last: an outcome that has come since is found where everybody looks.
    if (!entry || entry.kind === 'erased' || !this.#counts(entry, fingerprint)) return wasInFlight();
    if (entry.kind === 'final') {
      this.#hold(key, entry);
      return knownOf(entry, 'shared');
    }
    if (inFlightMs === undefined) return undefined;
    this.#recent.note(key, fingerprint);
    // One who asks again is told at once when there is an outcome; of many, all but a few can wait for that moment.
    if (this.#duplicated.has(key, fingerprint)) this.#storms.note(key, fingerprint);
    this.#duplicated.note(key, fingerprint);
    return { kind: 'in-flight' };
  }

  /**
   * The database is about to be asked. The returned function is told what it said: that the record is in flight, its final outcome,
   * or neither.
   */
  beginLook(identity: AttemptIdentity): (found: KeptOutcome | 'in-flight' | undefined) => void {
    const erasures = this.#erasures;
    const key = this.#keyOf(identity.keyHash);
    return (found) => {
      if (found !== 'in-flight') this.#recent.forget(key);
      else if (this.parts.inFlightMs !== undefined) this.#recent.note(key, identity.fingerprint);
      if (typeof found !== 'object' || erasures !== this.#erasures) return;
      // Only if absent: between the look and now it may have been erased by another process.
      void this.#keep(identity, found, true);
    };
  }

  /**
   * An attempt of this process begins, and goes on as long as it `isHeld`. The returned function says how it ended; an outcome
   * is kept once it is committed.
   */
  begin(identity: AttemptIdentity, isHeld: () => boolean): (outcome: KeptOutcome | undefined) => void {
    const key = this.#keyOf(identity.keyHash);
    const hint = this.#hint(identity, isHeld);
    const takeBack = (): void => void this.parts.shared?.cache.delete(key);
    return (outcome) => {
      const isGiven = hint?.end() ?? false;
      this.#recent.forget(key);
      // Only its own hint is written over: an outcome that arrives late must not take the place of an erasure.
      const keeping = outcome && this.#keep(identity, outcome, !isGiven);
      if (!isGiven) return;
      // Beside an outcome that is not kept the hint would say what is not so.
      if (keeping) void keeping.then((isKept) => isKept || takeBack());
      else takeBack();
    };
  }

  /**
   * Takes an erased record's copy out of this process and of the shared cache. `false`: the shared cache could not be told, and may
   * keep a copy as long as the record counts.
   */
  async erase(keyHash: Buffer): Promise<boolean> {
    const key = this.#keyOf(keyHash);
    const { memory, shared } = this.parts;
    this.#erasures++;
    this.#asking.delete(key);
    memory?.delete(key);
    if (!shared) return true;
    return shared.cache.set(key, shared.codec.encode(keyHash, { kind: 'erased' }), { ttlMs: ERASED_MS });
  }

  #hint({ keyHash, fingerprint }: AttemptIdentity, isHeld: () => boolean): InFlightHint | undefined {
    const { shared, inFlightMs: lifeMs, clock } = this.parts;
    if (!shared || lifeMs === undefined) return undefined;
    const key = this.#keyOf(keyHash);
    const give = (): void => {
      const now = clock.latest();
      if (now === undefined) return;
      const entry = { kind: 'in-flight', fingerprint, expiresAtMs: now + lifeMs } as const;
      void shared.cache.set(key, shared.codec.encode(keyHash, entry), { ttlMs: lifeMs });
    };
    return new InFlightHint({ lifeMs, isHeld, give });
  }

  /** Whether the shared cache has taken it. */
  async #keep(
    { keyHash, fingerprint }: AttemptIdentity,
    outcome: KeptOutcome,
    onlyIfAbsent: boolean,
  ): Promise<boolean> {
    const now = this.parts.clock.latest();
    if (now === undefined) return false;
    const ttlMs = Math.floor(outcome.expiresAtMs - now);
    if (ttlMs < 1) return false;
    const { raised, response, expiresAtMs } = outcome;
    const key = this.#keyOf(keyHash);
    this.#hold(key, { fingerprint, raised, response, expiresAtMs });
    const { shared } = this.parts;
    if (!shared) return false;
    const entry = { kind: 'final', fingerprint, raised, response, expiresAtMs } as const;
    return shared.cache.set(key, shared.codec.encode(keyHash, entry), { ttlMs, onlyIfAbsent });
  }

  #hold(key: string, { fingerprint, expiresAtMs, raised, response }: CachedOutcome): void {
    const { memory } = this.parts;
    if (!memory) return;
    const { status, headers, body } = response;
    const text = JSON.stringify(headers).length;
    const kept = { status, headers, body: body && copyOf(body) };
    const outcome = { fingerprint: copyOf(fingerprint), expiresAtMs, raised, response: kept };
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
      if (this.#asking.get(key) === asking) this.#asking.delete(key);
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

/** Bytes with memory of their own: a small part would keep the whole network packet, or the pool, that it lies in. */
function copyOf(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.byteLength);
  bytes.copy(copy);
  return copy;
}

function knownOf({ raised, response }: CachedOutcome, source: 'memory' | 'shared'): Known {
  return { kind: 'final', raised, response, source };
}
