// Stands in for the library's lease mode until that is there; then this file goes, `LeaseAttempt` becomes `Attempt`,
// and `leaseOf(attempt)` becomes `attempt`.
import { createHash } from 'node:crypto';
import type { Attempt, IdempotentOptions } from 'nestjs-pg-idempotency';

export interface LeaseAttempt extends Attempt {
  readonly signal: AbortSignal;
  step<T>(name: string, fn: () => T | Promise<T>): Promise<T>;
  phase<T>(name: string, fn: () => T | Promise<T>): Promise<T>;
  downstreamKey(name: string): string;
  afterCommit(fn: () => unknown): void;
}

/** To become `{ mode: 'lease', onAbandoned: 'retry' }`. */
export const LEASE: IdempotentOptions = {};

export function leaseOf(attempt: Attempt): LeaseAttempt {
  const run = async <T>(_name: string, fn: () => T | Promise<T>): Promise<T> => fn();
  const { key, scope, number, manager } = attempt;
  return {
    key,
    scope,
    number,
    manager,
    signal: new AbortController().signal,
    step: run,
    phase: run,
    downstreamKey: (name) => {
      const hex = createHash('sha256')
        .update(JSON.stringify([scope, key, name]))
        .digest('hex');
      return hex.slice(0, 32).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
    },
    afterCommit: () => undefined,
  };
}
