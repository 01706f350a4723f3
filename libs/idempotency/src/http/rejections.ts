import type { FailureReason, RejectionReason } from '../engine/outcomes.js';
import type { IdempotencyErrorCode } from '../errors/idempotency-error-code.js';

interface Rejection {
  readonly code: IdempotencyErrorCode;
  readonly detail: string;
  /** The same request may succeed later. */
  readonly retry: boolean;
}

/** How the engine's refusals and failures read in HTTP. */
export const REJECTIONS: Readonly<Record<RejectionReason | FailureReason, Rejection>> = {
  'in-flight': {
    code: 'IDEMPOTENCY_KEY_IN_USE',
    detail: 'A request with this idempotency key is being processed. Retry later with the same key.',
    retry: true,
  },
  reused: {
    code: 'IDEMPOTENCY_KEY_REUSED',
    detail:
      'This idempotency key was used with another path, query or body. Use a new key for another request.',
    retry: false,
  },
  'response-not-stored': {
    code: 'IDEMPOTENCY_RESPONSE_NOT_STORED',
    detail:
      'The request took effect and was answered, but its answer could not be stored. It is not run again; look up ' +
      'the result instead.',
    retry: false,
  },
  'attempts-exhausted': {
    code: 'IDEMPOTENCY_ATTEMPTS_EXHAUSTED',
    detail:
      'Every attempt at this request died before it was done, and it had no effect. It is not run again.',
    retry: false,
  },
  undecided: {
    code: 'IDEMPOTENCY_OUTCOME_UNKNOWN',
    detail:
      'Whether the request took effect is not known, and it is not run again by itself: it waits for somebody to look ' +
      'into it. Retry later with the same key to get the outcome.',
    retry: true,
  },
  'record-unreadable': {
    code: 'IDEMPOTENCY_RECORD_UNREADABLE',
    detail:
      'The stored outcome of this request cannot be read by this version of the server. It is not run again.',
    retry: false,
  },
  'store-unavailable': {
    code: 'IDEMPOTENCY_STORE_UNAVAILABLE',
    detail: 'The request could not be recorded and was not run. Retry later with the same key.',
    retry: true,
  },
  'shutting-down': {
    code: 'IDEMPOTENCY_SHUTTING_DOWN',
    detail: 'This instance is shutting down and has not run the request. Retry with the same key.',
    retry: true,
  },
  'attempt-lost': {
    code: 'IDEMPOTENCY_ATTEMPT_LOST',
    detail: 'The attempt was interrupted and had no effect. Retry later with the same key.',
    retry: true,
  },
  'transaction-conflict': {
    code: 'IDEMPOTENCY_TRANSACTION_CONFLICT',
    detail: 'The attempt conflicted with another transaction and was rolled back. Retry with the same key.',
    retry: true,
  },
  'outcome-unknown': {
    code: 'IDEMPOTENCY_OUTCOME_UNKNOWN',
    detail: 'Whether the request took effect is not known yet. Retry later with the same key to find out.',
    retry: true,
  },
};
