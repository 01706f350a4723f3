import {
  type CallHandler,
  type ExecutionContext,
  HttpException,
  Injectable,
  Logger,
  type NestInterceptor,
} from '@nestjs/common';
import { lastValueFrom, type Observable, of } from 'rxjs';
import type {
  EngineOutcome,
  EngineRequest,
  FailureReason,
  HandlerOutcome,
  RejectionReason,
} from '../engine/outcomes.js';
import { IDEMPOTENCY_STATUS, type IdempotencyErrorCode } from '../errors/idempotency-error-code.js';
import { IdempotencyProblem } from '../errors/idempotency.problem.js';
import type { IdempotencyRuntime, RecordDatabase } from '../idempotency.runtime.js';
import type { ProtectedRoute } from '../routes/route-registry.js';
import type { AttemptIdentity } from '../store/identity.js';
import type { StoredResponse } from '../store/record.js';
import type { RunningAttempt } from '../transaction/running-attempt.js';
import type { KeyCarrier } from './idempotency-key.js';
import type { CapturedReply } from './captured-reply.js';
import { lateResponse } from './late-response.js';
import { completionOf } from './completion.js';
import { emitFirst, emitReply, replayedStatus } from './emit-reply.js';
import { type PlatformResponse, setHeader } from './platform.js';
import { REJECTIONS } from './rejections.js';
import { REPLAYED_HEADER } from './replay-headers.js';
import { captureReply } from './reply-codec.js';
import type { IdempotentRequest } from './request.js';
import { captureError, reviveError } from './stored-error.js';
import { encodeRequest } from './stored-request.js';

/** What the handler of this request came to, kept until the engine says what to do with it. */
type Result =
  | { readonly kind: 'reply'; readonly reply: CapturedReply }
  | { readonly kind: 'error'; readonly error: unknown };

/** What the engine says, and what its answer is made of where this request's handler has run. */
interface Ended {
  readonly outcome: EngineOutcome;
  readonly result: Result | undefined;
}

/**
 * HTTP in, engine, HTTP out. It is the outermost interceptor: guards have run, so that what they refuse leaves no
 * record, and what it stores is what the other interceptors and serializers made of the handler's result.
 */
@Injectable()
export class IdempotencyInterceptor implements NestInterceptor {
  readonly #logger = new Logger('Idempotency');

  constructor(private readonly runtime: IdempotencyRuntime) {}

  async intercept(context: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    const route = this.runtime.routes.find(context.getClass(), context.getHandler());
    if (!route) return next.handle();
    if (context.getType() !== 'http') {
      throw new Error(
        `@Idempotent() covers HTTP routes; ${context.getClass().name} was called over ${context.getType()}.`,
      );
    }
    const request = context.switchToHttp().getRequest<IdempotentRequest & KeyCarrier>();
    const response = context.switchToHttp().getResponse<PlatformResponse>();
    if (request.method !== 'POST' && request.method !== 'PATCH') return next.handle();

    const completed = completionOf(request);
    if (completed) {
      // The function is not asked again: what it reads may not be on a request that was put together from a record.
      const ended = await this.#run(completed.database, completed, route, { response, next });
      return of(this.#respond(ended, completed.identity, route, response));
    }
    const reading = this.runtime.identities.read(request, route, this.runtime.settings.namespace);
    switch (reading.kind) {
      case 'unprotected':
        return next.handle();
      case 'rejected':
        throw this.#problem(route, reading.code, reading.detail, undefined);
      case 'identity': {
        const { identity } = reading;
        const stored = this.#storedOf(request, route);
        const drained = await this.runtime.drain.run(async (begin) => {
          const database = await this.#databaseOf(request, identity, route);
          return this.#run(database, { identity, stored }, route, { response, next, begin });
        });
        if (drained.kind === 'turned-away') {
          // Whoever keeps the connection would only be turned away again.
          setHeader(response, 'Connection', 'close');
          throw this.#refusal('shutting-down', undefined, identity, route);
        }
        return of(this.#respond(drained.value, identity, route, response));
      }
    }
  }

  /** Fail closed: without a database that is known and usable, nothing runs. */
  async #databaseOf(
    request: IdempotentRequest,
    identity: AttemptIdentity,
    route: ProtectedRoute,
  ): Promise<RecordDatabase> {
    const reading = await this.runtime.databases.of(request);
    switch (reading.kind) {
      case 'database':
        return reading.database;
      case 'unresolved': {
        const { message, cause } = reading.cause;
        this.#logger.error(
          `${nameOf(identity)}: ${message}`,
          cause instanceof Error ? cause.stack : undefined,
        );
        const detail = 'The server cannot tell which database this request belongs to.';
        const code = 'IDEMPOTENCY_DATA_SOURCE_UNRESOLVED';
        throw this.#problem(route, code, detail, identity, { cause: reading.cause });
      }
      case 'unavailable':
        throw this.#refusal('store-unavailable', reading.cause, identity, route);
    }
  }

  /** What the completer can call the handler again with, before the handler sees the request and may change it. */
  #storedOf(request: IdempotentRequest, { name, policy }: ProtectedRoute): Buffer | undefined {
    const { completer } = this.runtime.settings;
    if (!completer || policy.mode !== 'lease' || policy.onAbandoned !== 'retry') return undefined;
    return encodeRequest(request, name, completer.requestHeaders);
  }

  /** Has the engine run the handler, or answer without it. */
  async #run(
    database: RecordDatabase,
    engineRequest: EngineRequest,
    route: ProtectedRoute,
    http: { response: PlatformResponse; next: CallHandler; begin?: () => void },
  ): Promise<Ended> {
    let result: Result | undefined;
    // What the answer is captured from: not from a response that somebody else's answer was put on.
    const exchange = { ...http };
    const engine = database.engines[route.policy.mode];
    const outcome = await engine.run(engineRequest, route.policy, async (attempt) => {
      http.begin?.();
      result = await this.#execute(route, exchange);
      return this.#judge(route, attempt, result, exchange.response);
    });
    if (!result && outcome.kind === 'failed') exchange.response = lateResponse(http.response);
    return { outcome, result };
  }

  /** Runs pipes, inner interceptors and the handler; never rejects. */
  async #execute(
    route: ProtectedRoute,
    exchange: { readonly response: PlatformResponse; readonly next: CallHandler },
  ): Promise<Result> {
    try {
      const value: unknown = await lastValueFrom(exchange.next.handle());
      const reply = await captureReply({
        value,
        response: exchange.response,
        maxBytes: route.maxResponseBytes,
        replayHeaders: route.replayHeaders,
        redirect: route.redirect,
      });
      return { kind: 'reply', reply };
    } catch (error) {
      return { kind: 'error', error };
    }
  }

  /** Decides whether the result is final, and how it is stored. */
  #judge(
    route: ProtectedRoute,
    attempt: RunningAttempt,
    result: Result,
    response: PlatformResponse,
  ): HandlerOutcome {
    if (result.kind === 'reply') {
      const stored = storedOf(result.reply);
      return route.storeIf(stored.status, undefined)
        ? { kind: 'final', status: 'completed', response: stored }
        : { kind: 'release', error: new Error(`answered ${stored.status}, which storeIf does not store`) };
    }
    const { error } = result;
    const exception = error instanceof HttpException ? error : undefined;
    const status = exception?.getStatus() ?? 500;
    // Pipes and inner interceptors decided before the handler began: the same key works with a corrected request.
    if (!attempt.handlerBegan || !route.storeIf(status, error)) return { kind: 'release', error };
    const stored = captureError(exception ?? unknownError(), response, {
      replayHeaders: route.replayHeaders,
    });
    return {
      kind: 'final',
      status: 'error',
      error,
      response:
        stored && (stored.body?.length ?? 0) <= route.maxResponseBytes
          ? stored
          : { status, headers: {}, body: null },
    };
  }

  #respond(
    { outcome, result }: Ended,
    identity: AttemptIdentity,
    route: ProtectedRoute,
    response: PlatformResponse,
  ): unknown {
    switch (outcome.kind) {
      case 'executed':
        return this.#first(identity, route, response, result);
      case 'released':
        // The handler's own answer or error; an answer for work that could not be committed is no answer.
        if (result?.kind === 'reply' && !route.storeIf(storedOf(result.reply).status, undefined)) {
          return this.#first(identity, route, response, result);
        }
        throw outcome.error;
      case 'replay': {
        const stored = outcome.response;
        if (outcome.raised) throw reviveError(response, stored);
        return emitReply(response, stored, {
          status: replayedStatus(stored.status, route.replayStatus),
          replayed: true,
          redirect: route.redirect !== undefined,
        });
      }
      case 'rejected':
      case 'failed':
        throw this.#refusal(outcome.reason, outcome.cause, identity, route);
    }
  }

  #refusal(
    reason: RejectionReason | FailureReason,
    cause: unknown,
    identity: AttemptIdentity,
    route: ProtectedRoute,
  ): IdempotencyProblem {
    const { code, detail, retry } = REJECTIONS[reason];
    if (IDEMPOTENCY_STATUS[code] >= 500 && reason !== 'shutting-down')
      this.#logger.warn(`${nameOf(identity)}: ${code}: ${reasonOf(cause)}`);
    return this.#problem(route, code, detail, identity, { retry, cause });
  }

  #first(
    identity: AttemptIdentity,
    route: ProtectedRoute,
    response: PlatformResponse,
    result: Result | undefined,
  ): unknown {
    // Unreachable: the engine executes nothing without the handler above.
    if (!result) throw new Error('the attempt was committed without a result');
    if (result.kind === 'error') {
      setHeader(response, REPLAYED_HEADER, 'false');
      throw result.error;
    }
    const { reply } = result;
    if (reply.kind === 'unstorable') {
      this.#logger.warn(
        `${nameOf(identity)}: the answer was not stored ` +
          `(${reply.reason}); a retry is answered ${IDEMPOTENCY_STATUS.IDEMPOTENCY_RESPONSE_NOT_STORED}.`,
      );
    }
    return emitFirst(response, reply, { redirect: route.redirect !== undefined });
  }

  #problem(
    route: ProtectedRoute,
    code: IdempotencyErrorCode,
    detail: string,
    identity: AttemptIdentity | undefined,
    { retry = false, cause }: { retry?: boolean; cause?: unknown } = {},
  ): IdempotencyProblem {
    this.runtime.events.emit({
      type: 'rejected',
      code,
      ...(identity ? { keyHash: identity.keyHash.toString('hex'), operation: identity.operation } : {}),
    });
    const make = (): IdempotencyProblem =>
      new IdempotencyProblem({
        code,
        detail,
        docsUrl: this.runtime.settings.docsUrl,
        ...(retry ? { retryAfterSeconds: route.retryAfterSeconds } : {}),
        cause,
      });
    return IDEMPOTENCY_STATUS[code] < 500 ? withoutStack(make) : make();
  }
}

/** A client's refusal is no fault to be found in the code, and its stack is a good part of what a storm of them costs. */
function withoutStack<T>(make: () => T): T {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    return make();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

function nameOf({ operation, keyHash }: AttemptIdentity): string {
  return `${operation} (key ${keyHash.toString('hex').slice(0, 16)})`;
}

function storedOf(reply: CapturedReply): StoredResponse {
  return reply.kind === 'storable'
    ? reply.response
    : { status: reply.status, headers: reply.headers, body: null };
}

/** What Nest's default filter answers for an error it does not know. */
function unknownError(): HttpException {
  return new HttpException({ statusCode: 500, message: 'Internal server error' }, 500);
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? `${cause.name}: ${cause.message}` : 'no further cause';
}
