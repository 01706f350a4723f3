/** What an actor is at between two turns: it waits for one, waits for a lock in the midst of one, or has come to its end. */
export type ActorState = 'waiting' | 'running' | 'done';

/** One session of an interleaving. It does one thing with each turn that it is given, and then waits for the next. */
export class Actor {
  state: ActorState = 'running';
  /** What its script came to. */
  result = '';
  /** The statements of the library that it has sent. */
  readonly sent: string[] = [];
  /** It has committed since this was last put back, so that there may be something new to see. */
  hasCommitted = false;
  /** How often one of its statements was refused because of another transaction (40001, 40P01). */
  conflicts = 0;
  /** Its turns are not counted yet: what comes before the interleaving. */
  isFree = true;

  #turn: 'none' | 'unused' | 'used' = 'none';
  #go: (() => void) | undefined;

  constructor(
    readonly name: string,
    private readonly onChange: () => void,
  ) {}

  /**
   * Called before each thing that it does. What touches no row, as a savepoint, nobody else can see before or after: it goes along
   * with what comes before or behind it, and takes no turn of its own.
   */
  async turn(touchesRows = true): Promise<void> {
    if (this.isFree) return;
    if (this.#turn === 'none' || (touchesRows && this.#turn === 'used')) {
      await new Promise<void>((resolve) => {
        this.#go = resolve;
        this.#change('waiting');
      });
    }
    this.#turn = touchesRows ? 'used' : this.#turn === 'none' ? 'unused' : this.#turn;
  }

  /** Gives it its next turn. */
  go(): void {
    if (this.state !== 'waiting') throw new Error(`${this.name} does not wait for a turn`);
    this.state = 'running';
    this.#go?.();
  }

  play(script: () => Promise<string>): void {
    this.isFree = false;
    void this.#play(script);
  }

  async #play(script: () => Promise<string>): Promise<void> {
    this.result = await script();
    this.#change('done');
  }

  #change(state: ActorState): void {
    this.state = state;
    this.onChange();
  }
}
