/** Which record a request speaks of, frozen before the handler sees the request. */
export interface AttemptIdentity {
  readonly namespace: string;
  readonly scope: string;
  readonly key: string;
  /** SHA-256 over length-prefixed namespace, scope and key: the unique key of the table. */
  readonly keyHash: Buffer;
  /** Method and route, for people: `POST /carts/:userId/items`. */
  readonly operation: string;
  /** SHA-256 of what a retry must repeat. */
  readonly fingerprint: Buffer;
}
