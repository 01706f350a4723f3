const KEPT = 5;
/** Shared by all that have seen nothing: there is one of these for each answer of each key. */
const NONE: readonly number[] = [];

/** The same thing seen once or more often: how often, and in which calls. */
export class Sightings {
  count = 0;
  /** The first few. */
  calls = NONE;

  add(call?: number): void {
    this.count += 1;
    if (call !== undefined && this.calls.length < KEPT) this.calls = withOne(this.calls, call);
  }

  /** `call 3`, `calls 3 and 4`, `7 calls, among them 3, 4, 5, 6 and 9,`. */
  get who(): string {
    const calls = listed(this.calls);
    if (this.count === 1) return `call ${calls}`;
    return this.count > this.calls.length ? `${this.count} calls, among them ${calls},` : `calls ${calls}`;
  }
}

/** How something is shown in a message: asked only where there is something to say. */
export type Show = () => string;

/** The same kind of thing, and how it looked the first time. */
export class Shown extends Sightings {
  constructor(readonly first: string) {
    super();
  }
}

/** The list with one more, and no room for others: one that grows by itself, or is spread, keeps room for sixteen. */
export const withOne = <T>(list: readonly T[], item: T): readonly T[] => list.concat([item]);

/** `a`, `a and b`, `a, b and c`. */
export function listed(items: readonly (string | number)[]): string {
  const last = items.at(-1);
  return items.length < 2 ? String(last ?? '') : `${items.slice(0, -1).join(', ')} and ${last}`;
}
