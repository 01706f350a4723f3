/** More keys than that are not remembered; the database is asked about them. */
const MAX_KEYS = 10_000;

interface Word {
  readonly fingerprint: Buffer;
  readonly until: number;
}

/**
 * What this process was told to be in flight a moment ago, so that a storm of duplicates of one key costs whoever was asked a few
 * questions a second, however many they are. It delays nobody for longer than that moment.
 */
export class RecentlyInFlight {
  // All words count for the same time, so that the order of insertion is the order in which they end.
  readonly #words = new Map<string, Word>();

  /** For so many milliseconds the word of whoever was asked is taken. */
  constructor(private readonly wordMs: number) {}

  note(key: string, fingerprint: Buffer): void {
    const now = performance.now();
    for (const [old, { until }] of this.#words) {
      if (until > now && this.#words.size < MAX_KEYS) break;
      this.#words.delete(old);
    }
    this.#words.delete(key);
    this.#words.set(key, { fingerprint, until: now + this.wordMs });
  }

  has(key: string, fingerprint: Buffer): boolean {
    const word = this.#words.get(key);
    return word !== undefined && word.until > performance.now() && word.fingerprint.equals(fingerprint);
  }

  forget(key: string): void {
    this.#words.delete(key);
  }
}
