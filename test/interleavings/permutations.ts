import fc from 'fast-check';

/** How many turns each session has, by its letter: `{ A: 6, B: 4 }`. */
export type Turns = Readonly<Record<string, number>>;

/**
 * Every order of the turns in which each session's own stay in their order, as letters: `AAB`, `ABA`, `BAA`. The first is one session
 * after the other, in the order of `turns`.
 */
export function* permutationsOf(turns: Turns): Generator<string> {
  const left = new Map(Object.entries(turns));
  function* beginningWith(begun: string): Generator<string> {
    let isWhole = true;
    for (const [name, count] of left) {
      if (count === 0) continue;
      isWhole = false;
      left.set(name, count - 1);
      yield* beginningWith(begun + name);
      left.set(name, count);
    }
    if (isWhole) yield begun;
  }
  yield* beginningWith('');
}

/** Some of them, each at most once: the same for the same seed. */
export function sampleOf(turns: Turns, size: number, seed: number): string[] {
  const letters = Object.entries(turns).flatMap(([name, count]) => Array.from({ length: count }, () => name));
  const whole = { minLength: letters.length, maxLength: letters.length };
  const shuffled = fc.noBias(fc.shuffledSubarray(letters, whole));
  // Of a few more, because some come twice.
  const drawn = fc.sample(shuffled, { numRuns: 2 * size, seed }).map((order) => order.join(''));
  return [...new Set(drawn)].slice(0, size);
}

/** When the turns of a permutation come. */
export class Order {
  readonly #turns = new Map<string, number[]>();

  constructor(readonly permutation: string) {
    for (const [index, name] of permutation.split('').entries()) {
      this.#turns.set(name, [...(this.#turns.get(name) ?? []), index]);
    }
  }

  /** When a session has its first, second, … turn; one that it does not have never comes. */
  at(name: string, turn: number): number {
    return this.#turns.get(name)?.[turn - 1] ?? Infinity;
  }
}
