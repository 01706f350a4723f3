/** More are not remembered: about a megabyte. The ones that were asked for longest ago go first. */
const MAX_KEYS = 10_000;

/**
 * Keys whose records this process has seen to be final. A hint, and no answer: a duplicate of one is answered from its record as
 * every other is, but with a look that reads only, in place of a claim that would find nothing to claim.
 *
 * A hint that is wrong, because the record has expired or was erased meanwhile, costs one round trip.
 */
export class FinishedKeys {
  // In the order of their last use.
  readonly #keys = new Set<string>();

  /** Whether it is worth a look; one that is goes to the end of those that are forgotten. */
  has(keyHash: Buffer): boolean {
    const name = nameOf(keyHash);
    if (!this.#keys.delete(name)) return false;
    this.#keys.add(name);
    return true;
  }

  add(keyHash: Buffer): void {
    const name = nameOf(keyHash);
    this.#keys.delete(name);
    this.#keys.add(name);
    if (this.#keys.size <= MAX_KEYS) return;
    const [oldest = name] = this.#keys;
    this.#keys.delete(oldest);
  }

  delete(keyHash: Buffer): void {
    this.#keys.delete(nameOf(keyHash));
  }
}

/** A character for each byte. */
const nameOf = (keyHash: Buffer): string => keyHash.toString('latin1');
