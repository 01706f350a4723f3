import type { AttemptIdentity } from '../store/identity.js';
import type { StoredResponse } from '../store/record.js';
import type { RunningAttempt } from '../transaction/running-attempt.js';
import type { AttemptPolicy } from './policy.js';

/** What the handler came to, as the caller of the engine judges it. */
export type HandlerOutcome =
  /** Final: stored, and replayed to every retry. `error` keeps nothing of the handler's rows. */
  | { readonly kind: 'final'; readonly status: 'completed'; readonly response: StoredResponse }
  | {
      readonly kind: 'final';
      readonly status: 'error';
      readonly response: StoredResponse;
      readonly error: unknown;
    }
  /** Not final: rolled back, and the key is given back. */
  | { readonly kind: 'release'; readonly error: unknown };

/** Why a request was refused without running the handler. */
export type RejectionReason =
  | 'in-flight'
  | 'reused'
  | 'response-not-stored'
  | 'attempts-exhausted'
  | 'undecided'
  | 'record-unreadable'
  | 'store-unavailable'
  /** The application is shutting down, and nothing has begun. */
  | 'shutting-down';

/** Why an attempt has no answer of its own, although it began. */
export type FailureReason =
  /** The transaction is gone, nothing was committed. */
  | 'attempt-lost'
  /** Rolled back by a deadlock, a serialization failure or a lock timeout. */
  | 'transaction-conflict'
  /** The answer to COMMIT was lost and the record could not be read; in lease mode also: it ran for longer than maxRuntime. */
  | 'outcome-unknown';

/** Runs the handler in the attempt; resolves with its outcome. A rejection releases the key. */
export type RunHandler = (attempt: RunningAttempt) => Promise<HandlerOutcome>;

/** The protocol of one mode: acquire, then execute, replay or reject; after executing, complete or release. */
export interface Engine {
  /** Executes the request under its key, or answers from the record. Never rejects. */
  run(request: EngineRequest, policy: AttemptPolicy, handler: RunHandler): Promise<EngineOutcome>;
}

/** A request as the engine knows it. */
export interface EngineRequest {
  readonly identity: AttemptIdentity;
  /** Lease mode: what its handler can be called again with. */
  readonly stored?: Buffer | undefined;
}

/** What became of a request. */
export type EngineOutcome =
  /** This request's attempt ran, and its final outcome is committed: send the answer it captured. */
  | {
      readonly kind: 'executed';
      readonly attempt: number;
      /** When its record expires, by the database's clock, where that was heard. */
      readonly expiresAtMs?: number;
    }
  /** Another attempt's outcome: send that. `raised` tells an error the handler threw from an answer it gave. */
  | { readonly kind: 'replay'; readonly raised: boolean; readonly response: StoredResponse }
  /** The attempt was rolled back and the key given back: raise the handler's own error. */
  | { readonly kind: 'released'; readonly error: unknown }
  | { readonly kind: 'rejected'; readonly reason: RejectionReason; readonly cause?: unknown }
  | { readonly kind: 'failed'; readonly reason: FailureReason; readonly cause: unknown };
