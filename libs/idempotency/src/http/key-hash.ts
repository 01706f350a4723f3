import { sha256Of } from './sha256.js';

/** What makes a key one of its kind. */
export interface KeyOwner {
  readonly namespace: string;
  readonly scope: string;
  readonly key: string;
}

/** The primary key of a record: SHA-256 over length-prefixed namespace, scope and key, 32 bytes for any input. */
export function keyHash({ namespace, scope, key }: KeyOwner): Buffer {
  return sha256Of([namespace, scope, key]);
}
