/** What was done in a run, and what was measured on the way. */
export class Tally {
  /** `kill at committed`: 12. */
  readonly counts = new Map<string, number>();
  /** Milliseconds from the end of an owner's process, as who watches over it learns of it, until its row is locked; transaction mode. */
  readonly freedMs: number[] = [];
  /** The same from the signal on: with what the kernel takes to tear a process down before it closes its connections. */
  readonly freedFromSignalMs: number[] = [];
  /** Milliseconds from the death of an owner until a retry elsewhere has its final answer, in transaction mode. */
  readonly answeredMs: number[] = [];

  add(name: string, count = 1): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + count);
  }

  /** Of all whose name begins so. */
  sum(prefix: string): number {
    let sum = 0;
    for (const [name, count] of this.counts) if (name.startsWith(prefix)) sum += count;
    return sum;
  }
}
