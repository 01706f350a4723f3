import { failpoint } from '../failpoint.js';

export interface HeartbeatParts {
  readonly leaseMs: number;
  /** Renews the lease in the database; `false`: it is another attempt's. */
  readonly renew: () => Promise<boolean>;
  /** Told once, when the lease is known to be lost. */
  readonly onLost: () => void;
  /** A renewal failed for another reason; it is tried again. */
  readonly onError: (error: unknown) => void;
}

/**
 * Renews the lease of one attempt every third of it, and knows until when it certainly runs: counted on the process's own
 * monotonic clock from before the statement was sent, so that no clock is compared with another.
 */
export class Heartbeat {
  #certainUntil: number;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;
  #isLost = false;
  /** While a phase holds the record's row: its lock is the proof, and a renewal would wait for it. */
  #holds = 0;
  #pending: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly parts: HeartbeatParts,
    claimSentAt: number,
  ) {
    this.#certainUntil = claimSentAt + parts.leaseMs;
    this.#schedule(parts.leaseMs / 3);
  }

  get isLost(): boolean {
    return this.#isLost;
  }

  get isStopped(): boolean {
    return this.#stopped;
  }

  /** Whether the lease runs for certain; without that it may have been taken over. */
  get isCertain(): boolean {
    return !this.#isLost && performance.now() < this.#certainUntil;
  }

  /** The lease was renewed by a statement that was sent at `sentAt`. */
  renewed(sentAt: number): void {
    this.#certainUntil = Math.max(this.#certainUntil, sentAt + this.parts.leaseMs);
  }

  /** A fenced write touched nothing. */
  lost(): void {
    if (this.#isLost) return;
    this.#isLost = true;
    this.stop();
    this.parts.onLost();
  }

  /** Keeps renewals back, once the one under way is answered, until the returned function is called. */
  async hold(): Promise<() => void> {
    this.#holds++;
    await this.#pending;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#holds--;
      if (this.#holds === 0 && !this.#stopped) this.#schedule(this.#untilNext());
    };
  }

  /**
   * Renews now.
   *
   * @returns `false` when the lease is lost.
   * @throws when the database cannot be asked: nobody knows then.
   */
  async renew(): Promise<boolean> {
    if (this.#isLost) return false;
    const sentAt = performance.now();
    failpoint('heartbeat-due');
    const renewing = this.parts.renew();
    this.#pending = renewing.catch(() => undefined);
    const ours = await renewing;
    failpoint('heartbeat-done');
    if (ours) this.renewed(sentAt);
    else this.lost();
    return ours;
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  /** The next renewal, counted from the last one. */
  #untilNext(): number {
    return Math.max(0, this.#certainUntil - (this.parts.leaseMs * 2) / 3 - performance.now());
  }

  #schedule(delayMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#beat(), delayMs);
    // The request it belongs to keeps the process alive, and nothing else is to.
    this.#timer.unref();
  }

  async #beat(): Promise<void> {
    if (this.#stopped || this.#holds > 0) return;
    let again = this.parts.leaseMs / 3;
    try {
      await this.renew();
    } catch (error) {
      this.parts.onError(error);
      again = this.parts.leaseMs / 10;
    }
    if (!this.#stopped && this.#holds === 0) this.#schedule(again);
  }
}
