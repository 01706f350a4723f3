interface Span {
  from: number;
  to: number;
}

/** Times that may overlap, put together: it takes no longer to ask of many than of few. */
export class Windows {
  readonly #merged: Span[] = [];

  constructor(spans: readonly Readonly<Span>[]) {
    for (const { from, to } of spans.toSorted((a, b) => a.from - b.from)) {
      const last = this.#merged.at(-1);
      if (last && from <= last.to) last.to = Math.max(last.to, to);
      else this.#merged.push({ from, to });
    }
  }

  /** Whether any of `from` to `to` is in one. */
  overlap(from: number, to: number): boolean {
    const next = this.#firstThatEndsFrom(from);
    return next !== undefined && next.from <= to;
  }

  /** Whether all of `from` to `to` is in one. */
  contain(from: number, to: number): boolean {
    const next = this.#firstThatEndsFrom(from);
    return next !== undefined && next.from <= from && to <= next.to;
  }

  #firstThatEndsFrom(time: number): Span | undefined {
    let low = 0;
    let high = this.#merged.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#merged[middle]?.to ?? Infinity) < time) low = middle + 1;
      else high = middle;
    }
    return this.#merged[low];
  }
}
