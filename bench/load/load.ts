/** What one run of the load generator does; travels to its process as a message. */
export interface LoadOrder {
  readonly url: string;
  readonly path: string;
  readonly concurrency: number;
  /** Requests are sent for so long before they count: a process that was not asked for a while is slow at first. */
  readonly rampMs: number;
  readonly durationMs: number;
  readonly keys: KeyPlan;
  /** Answers with another status make the run worthless, and are counted. */
  readonly expected: readonly number[];
}

/** Where the keys come from: new ones, each once; or those of `prefix`-0 to `prefix`-`count - 1`, over and over. */
export type KeyPlan =
  | { readonly kind: 'fresh'; readonly prefix: string }
  | {
      readonly kind: 'known';
      readonly prefix: string;
      readonly count: number;
      /** The number of the first that is known; 0 when it is left out. */
      readonly first?: number;
      /** From one to the next; 1 when it is left out. */
      readonly stride?: number;
      /** How many are passed over at the beginning; 0 when it is left out. */
      readonly from?: number;
    }
  /** `freshShare` of the requests have new keys, the others known ones. */
  | {
      readonly kind: 'mixed';
      readonly freshShare: number;
      readonly fresh: string;
      readonly known: string;
      readonly count: number;
    };

export interface LoadResult {
  readonly requests: number;
  /** With those that were answered after the end. */
  readonly answered: number;
  readonly seconds: number;
  /** Of each request, in milliseconds. */
  readonly timesMs: readonly number[];
  readonly unexpected: number;
  /** One of the unexpected, for the person who looks for the reason. */
  readonly example: string | undefined;
}

/** The body of every request. */
export const ORDER = JSON.stringify({ item: 'a-thing-with-a-name', quantity: 1 });
