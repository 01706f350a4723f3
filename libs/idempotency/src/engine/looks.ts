import type { AttemptIdentity } from '../store/identity.js';

/**
 * Questions to the database that are under way in this process, so that of many duplicates at once one asks, and the others go
 * by what it has found. It answers for nobody: who waits here looks again at what the process knows afterwards.
 */
export class Looks {
  readonly #underWay = new Map<string, Promise<void>>();

  /**
   * Of the same key and payload; rejects with what that question has failed with, so that a database that is away is not asked
   * anew by each of those who wait.
   */
  underWay(identity: AttemptIdentity): Promise<void> | undefined {
    return this.#underWay.get(nameOf(identity));
  }

  async run<T>(identity: AttemptIdentity, look: () => Promise<T>): Promise<T> {
    const name = nameOf(identity);
    const looking = look();
    const ended = endOf(looking);
    // Nobody may be waiting.
    ended.catch(() => undefined);
    this.#underWay.set(name, ended);
    try {
      return await looking;
    } finally {
      if (this.#underWay.get(name) === ended) this.#underWay.delete(name);
    }
  }
}

/** A turn of the event loop later: whoever has got the record is known as its owner by then. */
async function endOf(looking: Promise<unknown>): Promise<void> {
  await looking;
  await new Promise((resolve) => setImmediate(resolve));
}

function nameOf({ keyHash, fingerprint }: AttemptIdentity): string {
  return `${keyHash.toString('base64')} ${fingerprint.toString('base64')}`;
}
