import { createHash, randomUUID } from 'node:crypto';
import type { AttemptPolicy, EngineSettings } from '../../libs/idempotency/src/engine/policy.js';
import type { AttemptIdentity } from '../../libs/idempotency/src/store/identity.js';
import type { StoredResponse } from '../../libs/idempotency/src/store/record.js';

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();

/** No bound of time is met in an interleaving. */
const LONG_MS = 600_000;

export const SETTINGS: EngineSettings = { acquireTimeoutMs: LONG_MS, maxWaiters: 1 };
export const POLICY: AttemptPolicy = {
  mode: 'transaction',
  ttlMs: LONG_MS,
  maxRuntimeMs: LONG_MS,
  maxAttempts: 5,
  onInFlight: 'reject',
  waitTimeoutMs: LONG_MS,
  leaseMs: LONG_MS,
  onAbandoned: 'retry',
};
export const LEASE_POLICY: AttemptPolicy = { ...POLICY, mode: 'lease' };
export const PHASE_BOUNDS = { idleMs: LONG_MS, maxRuntimeMs: LONG_MS };

/** The key that one interleaving is about. */
export class Subject {
  readonly key: string = randomUUID();
  readonly keyHash = sha256(this.key);

  /** A request under it. */
  identity(payload = 'payload'): AttemptIdentity {
    const { key, keyHash } = this;
    return {
      namespace: 'test',
      scope: '',
      key,
      keyHash,
      operation: 'POST /test',
      fingerprint: sha256(payload),
    };
  }
}

/** The answer of a session's handler: tells whose it is. */
export const answerBy = (name: string): StoredResponse => ({
  status: 201,
  headers: {},
  body: Buffer.from(name),
});
