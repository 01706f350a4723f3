import type { RecordDatabase } from '../idempotency.runtime.js';
import type { AttemptIdentity } from '../store/identity.js';

export type { RecordDatabase } from '../idempotency.runtime.js';

/** A record to finish, and the database it was found in. */
export interface Completion {
  readonly identity: AttemptIdentity;
  readonly database: RecordDatabase;
}

const completions = new WeakMap<object, Completion>();

/**
 * The record that a request is to finish, when no client has sent it. Its identity is the record's: who asked, for what, and
 * in which database was settled when the client did. It belongs to the request and not to what runs meanwhile: a request that
 * the handler makes within the process has an identity of its own.
 */
export function completionOf(request: object): Completion | undefined {
  return completions.get(request);
}

export function markCompletion(request: object, completion: Completion): void {
  completions.set(request, completion);
}
