/** What the engine needs to know of a route, resolved and in numbers. */
export interface AttemptPolicy {
  readonly ttlMs: number;
  readonly maxRuntimeMs: number;
  readonly maxAttempts: number;
  readonly onInFlight: 'reject' | 'wait';
  readonly waitTimeoutMs: number;
}

/** What the engine needs to know of the module. */
export interface EngineSettings {
  readonly acquireTimeoutMs: number;
  readonly maxWaiters: number;
}
