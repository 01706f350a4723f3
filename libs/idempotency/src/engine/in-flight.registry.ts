import type { StoredResponse } from '../store/record.js';

/** What a local attempt came to, for the duplicates that wait for it in the same process. */
export type SharedOutcome =
  | {
      readonly kind: 'final';
      readonly raised: boolean;
      readonly response: StoredResponse;
      /** When its record expires, by the database's clock, where that was heard. */
      readonly expiresAtMs?: number;
    }
  /** It has no answer to share: ask the database. */
  | { readonly kind: 'none' };

/** An attempt of this process that holds its row. */
export interface LocalAttempt {
  readonly fingerprint: Buffer;
  readonly outcome: Promise<SharedOutcome>;
}

/**
 * The attempts that this process is executing, by key. It spares duplicates in the same process the database: they are
 * refused, or share the outcome, without a connection of the pool. It is never asked whether something may run.
 */
export class InFlightRegistry {
  readonly #attempts = new Map<string, LocalAttempt>();

  find(keyHash: Buffer): LocalAttempt | undefined {
    return this.#attempts.get(idOf(keyHash));
  }

  /** Registers an attempt once it holds its row; the returned function tells the outcome and takes it off. */
  add(keyHash: Buffer, fingerprint: Buffer): (outcome: SharedOutcome) => void {
    const id = idOf(keyHash);
    let tell!: (outcome: SharedOutcome) => void;
    const attempt: LocalAttempt = { fingerprint, outcome: new Promise((resolve) => (tell = resolve)) };
    this.#attempts.set(id, attempt);
    return (outcome) => {
      if (this.#attempts.get(id) === attempt) this.#attempts.delete(id);
      tell(outcome);
    };
  }

  get size(): number {
    return this.#attempts.size;
  }
}

/** One character a byte: nobody reads it, and it is the cheapest text to make. */
function idOf(keyHash: Buffer): string {
  return keyHash.toString('latin1');
}
