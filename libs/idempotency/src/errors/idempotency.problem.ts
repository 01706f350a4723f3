import { HttpException } from '@nestjs/common';
import { IDEMPOTENCY_STATUS, type IdempotencyErrorCode } from './idempotency-error-code.js';

/** A few words per code, the same for every occurrence of it (RFC 9457, section 3.1.3). */
const TITLES: Readonly<Record<IdempotencyErrorCode, string>> = {
  IDEMPOTENCY_KEY_REQUIRED: 'The idempotency key is missing',
  IDEMPOTENCY_KEY_INVALID: 'The idempotency key is not valid',
  IDEMPOTENCY_KEY_IN_USE: 'A request with this idempotency key is in flight',
  IDEMPOTENCY_BODY_NOT_PARSED: 'The request body was not parsed',
  IDEMPOTENCY_KEY_REUSED: 'The idempotency key was used for another request',
  IDEMPOTENCY_SCOPE_UNRESOLVED: 'The scope of the idempotency key is not known',
  IDEMPOTENCY_DATA_SOURCE_UNRESOLVED: 'The database of the request is not known',
  IDEMPOTENCY_RECORD_UNREADABLE: 'The stored outcome cannot be read',
  IDEMPOTENCY_RESPONSE_NOT_STORED: 'The request took effect, but its answer was not stored',
  IDEMPOTENCY_ATTEMPTS_EXHAUSTED: 'Every attempt at this request died',
  IDEMPOTENCY_ATTEMPT_LOST: 'The attempt was lost and had no effect',
  IDEMPOTENCY_TRANSACTION_CONFLICT: 'The attempt was rolled back by a conflict',
  IDEMPOTENCY_OUTCOME_UNKNOWN: 'The outcome is not known yet',
  IDEMPOTENCY_SHUTTING_DOWN: 'The instance is shutting down',
  IDEMPOTENCY_STORE_UNAVAILABLE: 'The idempotency store is not available',
};

/** What a problem is made of. */
export interface IdempotencyProblemOptions {
  readonly code: IdempotencyErrorCode;
  /** What happened this time and what the caller can do. Never the raw key, never a stored byte. */
  readonly detail: string;
  /** Sent as `Retry-After`, rounded up to whole seconds, at least 1. Without it no such header is sent. */
  readonly retryAfterSeconds?: number | undefined;
  /** Address of the page that describes the codes; the code becomes its fragment. */
  readonly docsUrl: string;
  /** For logs; never sent. */
  readonly cause?: unknown;
}

/** The body of a problem: RFC 9457 members, Nest's `statusCode` and `message`, and the `code` to switch on. */
export interface IdempotencyProblemBody {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly statusCode: number;
  readonly message: string;
  readonly detail: string;
  readonly code: IdempotencyErrorCode;
}

/**
 * An answer of this library's own, as problem details (RFC 9457). An `HttpException`, so that an application's own
 * filters see it like any other; without one, the library's filter writes it as `application/problem+json`.
 */
export class IdempotencyProblem extends HttpException {
  readonly code: IdempotencyErrorCode;
  /** Whole seconds, or `undefined` when the problem carries no `Retry-After`. */
  readonly retryAfterSeconds: number | undefined;

  private readonly body: IdempotencyProblemBody;

  constructor({ code, detail, retryAfterSeconds, docsUrl, cause }: IdempotencyProblemOptions) {
    const status = IDEMPOTENCY_STATUS[code];
    const body: IdempotencyProblemBody = {
      type: `${docsUrl}#${code}`,
      title: TITLES[code],
      status,
      statusCode: status,
      message: detail,
      detail,
      code,
    };
    super(body, status, { cause, errorCode: code });
    this.body = body;
    this.code = code;
    this.retryAfterSeconds =
      retryAfterSeconds === undefined ? undefined : Math.max(1, Math.ceil(retryAfterSeconds));
  }

  override getResponse(): IdempotencyProblemBody {
    return this.body;
  }
}
