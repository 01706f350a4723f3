/** How confirmations are sent. */
export interface ConfirmationsOptions {
  readonly databaseUrl: string;
  /** Whether this instance sends. It enqueues in any case, and what it enqueues waits for one that does. */
  readonly enabled: boolean;
}

export const CONFIRMATIONS_OPTIONS = Symbol('CONFIRMATIONS_OPTIONS');
