const PER_MS = 10;
const MAX_MS = 60_000;

/** Counts times by the tenth of a millisecond, so that it needs no sorting and no more memory for more of them. */
export class Latencies {
  readonly #counts = new Uint32Array(MAX_MS * PER_MS + 1);
  count = 0;

  add(ms: number): void {
    const slot = Math.min(Math.ceil(ms * PER_MS), MAX_MS * PER_MS);
    this.#counts[slot] = (this.#counts[slot] ?? 0) + 1;
    this.count += 1;
  }

  /** The least time that 99 of 100 do not exceed, rounded up to a tenth of a millisecond; a minute at most. */
  p99(): number {
    let left = Math.ceil(this.count * 0.99);
    const slot = this.#counts.findIndex((count) => (left -= count) <= 0);
    return Math.max(slot, 0) / PER_MS;
  }
}
