import { type ArgumentsHost, Catch, type ExceptionFilter, Inject } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { keepVerbatim, type PlatformResponse } from './platform.js';
import { IdempotencyProblem } from '../errors/idempotency.problem.js';

/** Writes an {@link IdempotencyProblem} as `application/problem+json` (RFC 9457), on Express and Fastify alike. */
@Catch(IdempotencyProblem)
export class IdempotencyProblemFilter implements ExceptionFilter<IdempotencyProblem> {
  constructor(@Inject(HttpAdapterHost) private readonly adapterHost: HttpAdapterHost) {}

  catch(problem: IdempotencyProblem, host: ArgumentsHost): void {
    // GraphQL and microservices have their own way to report an HttpException.
    if (host.getType() !== 'http') throw problem;
    const adapter = this.adapterHost.httpAdapter;
    const response = host.switchToHttp().getResponse<PlatformResponse>();
    if (adapter.isHeadersSent(response)) {
      adapter.end(response);
      return;
    }
    const body = problem.getResponse();
    adapter.setHeader(response, 'Content-Type', 'application/problem+json; charset=utf-8');
    adapter.setHeader(response, 'Content-Language', 'en');
    adapter.setHeader(response, 'Cache-Control', 'no-store');
    // The draft's way of pointing a client at the documentation (draft-07, section 2.7).
    adapter.setHeader(response, 'Link', `<${body.type}>; rel="describedby"; type="text/html"`);
    if (problem.retryAfterSeconds !== undefined) {
      adapter.setHeader(response, 'Retry-After', String(problem.retryAfterSeconds));
    }
    // A string: given an object, Nest's adapters may replace the content type, and a Fastify reply may carry a
    // serializer of the handler's.
    keepVerbatim(response);
    adapter.reply(response, JSON.stringify(body), problem.getStatus());
  }
}
