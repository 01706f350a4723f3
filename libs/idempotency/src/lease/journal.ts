import type { JournalEntry } from '../store/journal-entry.js';
import { StepOrderError } from './lease.errors.js';

const LONGEST_NAME = 200;

/** A step or phase that the handler has come to. */
export interface Visit {
  readonly name: string;
  readonly kind: JournalEntry['kind'];
  /** Its place among the handler's steps and phases, from 1. */
  readonly position: number;
  /** What it came to, when it was done before. */
  readonly entry: JournalEntry | undefined;
}

/** What is done of a handler, and how far this run of it has come. */
export class Journal {
  readonly #entries = new Map<string, JournalEntry>();
  #visited = new Set<string>();

  constructor(
    private readonly operation: string,
    entries: readonly JournalEntry[],
  ) {
    for (const entry of entries) this.add(entry);
  }

  get isEmpty(): boolean {
    return this.#entries.size === 0;
  }

  add(entry: JournalEntry): void {
    this.#entries.set(entry.name, entry);
  }

  /** The handler is run again from its beginning. */
  restart(): void {
    this.#visited = new Set();
  }

  /**
   * The handler comes to its next step or phase.
   *
   * Fail closed: a name out of order would give one step the result of another.
   *
   * @throws {StepOrderError} for a name that is no name, one used already, and one that is not the journal's next.
   */
  visit(kind: JournalEntry['kind'], name: string): Visit {
    if (typeof name !== 'string' || name === '' || name.length > LONGEST_NAME || name.includes('\0')) {
      this.#fail(
        `a ${kind} was given the name ${JSON.stringify(name)}: use a text of 1 to ${LONGEST_NAME} characters`,
      );
    }
    const named = JSON.stringify(name);
    if (this.#visited.has(name)) this.#fail(`the name ${named} was used twice`);
    const position = this.#visited.size + 1;
    const entry = this.#entries.get(name);
    if (entry && entry.position !== position) {
      this.#fail(
        `${kind} ${named} is number ${position} now, and was number ${entry.position} when it was done`,
      );
    }
    if (entry && entry.kind !== kind)
      this.#fail(`${named} is a ${kind} now, and was a ${entry.kind} when it was done`);
    const other = entry ?? [...this.#entries.values()].find((done) => done.position === position);
    if (other && other.name !== name) {
      this.#fail(
        `${kind} ${named} stands where attempt ${other.attempt} did the ${other.kind} ${JSON.stringify(other.name)}`,
      );
    }
    this.#visited.add(name);
    return { name, kind, position, entry };
  }

  /** What was done before and this run has not come to: its outcome would leave that out. */
  get skipped(): StepOrderError | undefined {
    const missing = [...this.#entries.values()].filter(({ name }) => !this.#visited.has(name));
    if (missing.length === 0) return undefined;
    const names = missing.map(
      ({ kind, name, attempt }) => `${kind} ${JSON.stringify(name)} (attempt ${attempt})`,
    );
    return new StepOrderError(
      this.operation,
      `the handler ended without ${names.join(', ')}, which was done before`,
    );
  }

  #fail(fault: string): never {
    throw new StepOrderError(this.operation, fault);
  }
}
