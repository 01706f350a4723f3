/** A handler that is quicker than that is nobody's storm: its duplicates find the record. */
const FIRST_MS = 20;

export interface InFlightHintParts {
  /** How long a hint counts without being given again. */
  readonly lifeMs: number;
  /** Gives the hint for another `lifeMs`. It must not reject. */
  readonly give: () => void;
  /** Takes it back. It must not reject. */
  readonly takeBack: () => void;
}

/**
 * Says to the other instances, as long as an attempt runs here, that it does; three times in the life of a hint, as a
 * heartbeat. It ends with the process: a hint that is not given again is over after its life.
 */
export class InFlightHint {
  #timer: NodeJS.Timeout | undefined;
  #isGiven = false;

  constructor(private readonly parts: InFlightHintParts) {
    this.#after(FIRST_MS);
  }

  /** Ends it; `isReplaced` says that what stands in its place will be written over it anyway. */
  end(isReplaced: boolean): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#isGiven && !isReplaced) this.parts.takeBack();
    this.#isGiven = false;
  }

  #after(delayMs: number): void {
    this.#timer = setTimeout(() => {
      this.#isGiven = true;
      this.parts.give();
      this.#after(this.parts.lifeMs / 3);
    }, delayMs);
    this.#timer.unref();
  }
}
