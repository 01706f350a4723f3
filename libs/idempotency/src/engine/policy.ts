/** What the engine needs to know of a route, resolved and in numbers. */
export interface AttemptPolicy {
  readonly mode: 'transaction' | 'lease';
  readonly ttlMs: number;
  readonly maxRuntimeMs: number;
  readonly maxAttempts: number;
  readonly onInFlight: 'reject' | 'wait';
  readonly waitTimeoutMs: number;
  /** Lease mode: how long the right to run lasts without a heartbeat. */
  readonly leaseMs: number;
  /** Lease mode: whether another attempt goes on where one was abandoned. */
  readonly onAbandoned: 'retry' | 'fail';
}

/** What the engine needs to know of the module. */
export interface EngineSettings {
  readonly acquireTimeoutMs: number;
  readonly maxWaiters: number;
}
