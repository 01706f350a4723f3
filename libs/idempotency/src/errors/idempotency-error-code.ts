/** Every `code` a problem document of this library can carry, with the status it is sent with. */
export const IDEMPOTENCY_STATUS = {
  /** The route requires a key and the header is missing. */
  IDEMPOTENCY_KEY_REQUIRED: 400,
  /** The header is empty, doubled, too long, outside printable ASCII, or outside `keyFormat`. */
  IDEMPOTENCY_KEY_INVALID: 400,
  /** A request with this key is in flight; retry after `Retry-After`. */
  IDEMPOTENCY_KEY_IN_USE: 409,
  /** The request has a body that no parser took, so that it cannot be told from another one. Nothing ran. */
  IDEMPOTENCY_BODY_NOT_PARSED: 415,
  /** The key was used with another payload, path or query. */
  IDEMPOTENCY_KEY_REUSED: 422,
  /** The request is signed in, but no scope resolves. A fault of the server's configuration. Nothing ran. */
  IDEMPOTENCY_SCOPE_UNRESOLVED: 500,
  /** The `dataSource` function failed, or returned no initialised `DataSource`. A fault of the server. Nothing ran. */
  IDEMPOTENCY_DATA_SOURCE_UNRESOLVED: 500,
  /** The stored record has a format this version does not know. It is not run again. */
  IDEMPOTENCY_RECORD_UNREADABLE: 500,
  /** The effect stands, but its answer could not be stored. It is not run again. */
  IDEMPOTENCY_RESPONSE_NOT_STORED: 500,
  /** Every attempt died with its process; the handler is not run again. */
  IDEMPOTENCY_ATTEMPTS_EXHAUSTED: 500,
  /** The attempt's transaction is gone (connection lost, `maxRuntime` over) and nothing was committed: retry. */
  IDEMPOTENCY_ATTEMPT_LOST: 503,
  /** A deadlock, serialization failure or lock timeout rolled the attempt back, nothing was committed: retry. */
  IDEMPOTENCY_TRANSACTION_CONFLICT: 503,
  /** The answer to COMMIT was lost and the record could not be read yet: retry, it will be found out. */
  IDEMPOTENCY_OUTCOME_UNKNOWN: 503,
  /** The instance is shutting down and takes no new work. Nothing ran: another instance can run it at once. */
  IDEMPOTENCY_SHUTTING_DOWN: 503,
  /** The database cannot be reached or refuses. Nothing ran. */
  IDEMPOTENCY_STORE_UNAVAILABLE: 503,
} as const;

export type IdempotencyErrorCode = keyof typeof IDEMPOTENCY_STATUS;
