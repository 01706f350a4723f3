import { AsyncLocalStorage } from 'node:async_hooks';
import type { AttemptIdentity } from '../store/identity.js';

const storage = new AsyncLocalStorage<AttemptIdentity>();

/**
 * The record that the running call of a route is to finish, when no client has made it. Its identity is the record's: who
 * asked, and for what, was settled when the client did.
 */
export function currentCompletion(): AttemptIdentity | undefined {
  return storage.getStore();
}

export function runCompletion<T>(identity: AttemptIdentity, work: () => T): T {
  return storage.run(identity, work);
}
