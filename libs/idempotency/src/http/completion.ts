import type { AttemptIdentity } from '../store/identity.js';

const completions = new WeakMap<object, AttemptIdentity>();

/**
 * The record that a request is to finish, when no client has sent it. Its identity is the record's: who asked, and for what,
 * was settled when the client did. It belongs to the request and not to what runs meanwhile: a request that the handler
 * makes within the process has an identity of its own.
 */
export function completionOf(request: object): AttemptIdentity | undefined {
  return completions.get(request);
}

export function markCompletion(request: object, identity: AttemptIdentity): void {
  completions.set(request, identity);
}
