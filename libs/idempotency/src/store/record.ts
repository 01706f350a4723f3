/** The answer stands in its columns as it was sent. */
export const PLAIN_FORMAT = 1;
/** Headers and body of the answer are one encrypted value in `response_body`. */
export const SEALED_FORMAT = 2;

/** What this version of the library reads; a record in another format is refused, never re-run. */
export const KNOWN_FORMATS: readonly number[] = [PLAIN_FORMAT, SEALED_FORMAT];

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
