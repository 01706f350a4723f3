/** A handler that is quicker than that is nobody's storm: its duplicates find the record. */
const FIRST_MS = 20;

export interface InFlightHintParts {
  /** How long a hint counts without being given again. */
  readonly lifeMs: number;
  /** Whether the attempt still holds its record, as far as this process knows. */
  readonly isHeld: () => boolean;
  /** Gives the hint for another `lifeMs`. It must not reject. */
  readonly give: () => void;
}

/**
 * Says to the other instances, as long as an attempt runs here, that it does; three times in the life of a hint, as a
 * heartbeat. It ends with the process: a hint that is not given again is over after its life.
 */
export class InFlightHint {
  #timer: NodeJS.Timeout | undefined;
  #isGiven = false;
  #isOver = false;

  constructor(private readonly parts: InFlightHintParts) {
    this.#after(FIRST_MS);
  }

  /** Gives it no more; answers whether it was given, and may stand there still. */
  end(): boolean {
    this.#isOver = true;
    clearTimeout(this.#timer);
    return this.#isGiven;
  }

  #after(delayMs: number): void {
    // After a look at the sockets: a process that stood still learns first that its attempt is lost.
    this.#timer = setTimeout(() => setImmediate(() => this.#beat()), delayMs);
    this.#timer.unref();
  }

  #beat(): void {
    if (this.#isOver) return;
    if (this.parts.isHeld()) {
      this.#isGiven = true;
      this.parts.give();
    }
    this.#after(this.parts.lifeMs / 3);
  }
}
