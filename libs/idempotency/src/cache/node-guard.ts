/** So many operations may be unanswered at one node; further ones fail at once. */
const MAX_UNANSWERED = 512;
/** So many failures in a row, and the node is left alone. */
const FAILURES = 3;
/** When a node that is left alone is asked again: soon first, then less often. */
const FIRST_PROBE_MS = 250;
const LAST_PROBE_MS = 5_000;

/** An operation that was not tried, or not waited for any longer. */
export class NodeUnavailableError extends Error {
  override readonly name = 'NodeUnavailableError';
}

export interface NodeGuardParts {
  readonly timeoutMs: number;
  /** Called when the node is left alone, with the reason, and when it answers again. */
  readonly onChange: (cause: unknown) => void;
}

/**
 * Keeps one node of a cache from holding requests up. What it does not answer in time counts as failed, and after some
 * failures in a row nobody asks it: it is tried again beside the requests, never by one of them, so that no request
 * waits to find out whether it is back.
 */
export class NodeGuard {
  #unanswered = 0;
  #failures = 0;
  #probe: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(private readonly parts: NodeGuardParts) {}

  get isOpen(): boolean {
    return this.#probe !== undefined;
  }

  /**
   * @param probe something the node can be asked without an effect.
   * @throws what `operation` throws, and NodeUnavailableError when it was not tried or took too long; it may have an effect
   *   then all the same.
   */
  async run<T>(operation: () => Promise<T>, probe: () => Promise<unknown>): Promise<T> {
    if (this.isOpen) throw new NodeUnavailableError('the node is left alone after failures');
    // No failure of the node's: a burst must not look like an outage.
    this.#assertRoom();
    try {
      const result = await this.#timed(operation);
      this.#failures = 0;
      return result;
    } catch (error) {
      if (++this.#failures >= FAILURES && !this.isOpen && !this.#isClosed) {
        this.parts.onChange(error);
        this.#probeAfter(FIRST_PROBE_MS, probe);
      }
      throw error;
    }
  }

  /** Nothing is asked any more, not beside the requests either. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#probe);
    this.#probe = undefined;
  }

  /** What timed out is not over: a node that says nothing must not collect promises for ever. */
  #assertRoom(): void {
    if (this.#unanswered >= MAX_UNANSWERED)
      throw new NodeUnavailableError('too many operations are unanswered');
  }

  async #timed<T>(operation: () => Promise<T>): Promise<T> {
    const { timeoutMs } = this.parts;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const giveUp = (): void => reject(new NodeUnavailableError(`no answer within ${timeoutMs} ms`));
      // After a look at the sockets: where this process was busy for so long, the answer may be there.
      timer = setTimeout(() => setImmediate(giveUp), timeoutMs);
      timer.unref();
    });
    this.#unanswered++;
    const answered = Promise.resolve()
      .then(operation)
      .finally(() => this.#unanswered--);
    try {
      return await Promise.race([answered, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #ask(probe: () => Promise<unknown>): Promise<void> {
    this.#assertRoom();
    await this.#timed(probe);
  }

  #probeAfter(delayMs: number, probe: () => Promise<unknown>): void {
    this.#probe = setTimeout(() => {
      void this.#probeNow(delayMs, probe);
    }, delayMs);
    this.#probe.unref();
  }

  async #probeNow(delayMs: number, probe: () => Promise<unknown>): Promise<void> {
    try {
      await this.#ask(probe);
    } catch {
      if (this.isOpen) this.#probeAfter(Math.min(2 * delayMs, LAST_PROBE_MS), probe);
      return;
    }
    if (!this.isOpen) return;
    this.#failures = 0;
    this.#probe = undefined;
    this.parts.onChange(undefined);
  }
}
