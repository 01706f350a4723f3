/** Records written by this version of the library carry this format; another number is refused, never re-run. */
export const RECORD_FORMAT = 1;

/** The answer as it is stored: what a replay sends again, byte for byte. */
export interface StoredResponse {
  /** HTTP status of the first answer. */
  readonly status: number;
  /** Allow-listed headers, names in lower case, `content-type` among them when the answer had one. */
  readonly headers: Readonly<Record<string, string>>;
  /**
   * The body's bytes; empty for an answer without one. `null` makes the record a tombstone: the effect stands, but the
   * answer could not be stored (too large, or not expressible as bytes).
   */
  readonly body: Buffer | null;
}
