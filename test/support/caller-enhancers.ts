import {
  type ArgumentMetadata,
  type ArgumentsHost,
  type CallHandler,
  type CanActivate,
  Catch,
  type ExceptionFilter,
  type ExecutionContext,
  HttpException,
  Inject,
  Injectable,
  type NestInterceptor,
  type PipeTransform,
} from '@nestjs/common';
import { map, type Observable } from 'rxjs';
import type { StoredRequest } from '../../libs/idempotency/src/routes/route-caller.js';

/** The part of both platforms' requests that these routes use. */
export interface AnyRequest extends Record<string, unknown> {
  readonly method: string;
  readonly url: string;
  readonly originalUrl: string;
  readonly headers: Record<string, string>;
  readonly params: Record<string, string>;
  readonly query: Record<string, unknown>;
  readonly body: unknown;
  readonly ip?: string;
  readonly hostname?: string;
  readonly protocol?: string;
  user?: { id: string };
}

/** The part of both platforms' responses that these routes use. */
export interface AnyResponse {
  statusCode: number;
  status(code: number): AnyResponse;
  header(name: string, value: string | string[]): AnyResponse;
  type(type: string): AnyResponse;
  getHeader(name: string): unknown;
  send(body?: unknown): AnyResponse;
  /** Of Fastify. */
  readonly raw?: object;
}

/** What happened for each `x-run`, in order. */
const traces = new Map<string, string[]>();
/** The description of the request of each `x-run`, as an interceptor can make it. */
export const descriptions = new Map<string, StoredRequest>();
/** The response that was made for each `x-run`. */
export const responses = new Map<string, AnyResponse>();

export const traceOf = (run: string): string[] => traces.get(run) ?? [];

export function trace(request: AnyRequest, event: string): void {
  const run = request.headers['x-run'] ?? '';
  traces.set(run, [...traceOf(run), event]);
}

export const requestOf = (context: ArgumentsHost): AnyRequest =>
  context.switchToHttp().getRequest<AnyRequest>();

/** The path of the route, as either platform has it. */
export function patternOf(request: AnyRequest): string | undefined {
  const { route, routeOptions } = request as { route?: { path: string }; routeOptions?: { url: string } };
  return route?.path ?? routeOptions?.url;
}

/** Keeps the description of a request and its response. Plain, so that it can be told from the traced ones. */
export class Observing implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const request = requestOf(context);
    const { method, originalUrl: url, params, query, headers, body } = request;
    const run = headers['x-run'] ?? '';
    const route = `${context.getClass().name}.${context.getHandler().name}`;
    descriptions.set(run, { route, method, url, pattern: patternOf(request), params, query, headers, body });
    responses.set(run, context.switchToHttp().getResponse<AnyResponse>());
    trace(request, `${context.getType()} ${route}`);
    return next.handle();
  }
}

function tracing(name: string): new () => NestInterceptor {
  @Injectable()
  class Tracing implements NestInterceptor {
    intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
      const request = requestOf(context);
      trace(request, `> ${name}`);
      return next.handle().pipe(
        map((value: unknown) => {
          trace(request, `< ${name}`);
          return value;
        }),
      );
    }
  }
  return Tracing;
}
export const OfApp = tracing('app');
export const OfGlobal = tracing('global');
export const OfController = tracing('controller');
export const OfMethod = tracing('method');

@Injectable()
export class Counter {
  #count = 0;
  next(): number {
    return (this.#count += 1);
  }
}

/** Named by its class, with a dependency: only the container can make it. */
@Injectable()
export class Enveloping implements NestInterceptor {
  constructor(@Inject(Counter) private readonly counter: Counter) {}
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(map((data: unknown) => ({ data, counted: this.counter.next() > 0 })));
  }
}

@Injectable()
export class Guard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = requestOf(context);
    trace(request, 'guard');
    const user = request.headers['x-user'];
    if (user !== undefined) request.user = { id: user };
    return true;
  }
}

function filter(name: string, answer: (error: HttpException) => unknown): new () => ExceptionFilter {
  @Catch(HttpException)
  class TracingFilter implements ExceptionFilter {
    catch(error: HttpException, host: ArgumentsHost): void {
      trace(requestOf(host), name);
      host.switchToHttp().getResponse<AnyResponse>().status(error.getStatus()).send(answer(error));
    }
  }
  return TracingFilter;
}
export const Filter = filter('filter', (error) => error.getResponse());
export const OwnFilter = filter('own filter', () => 'filtered');

/** Fails on anything but what pipes are for. */
@Injectable()
export class Shouting implements PipeTransform {
  constructor(@Inject(Counter) private readonly counter: Counter) {}
  transform(value: unknown, { type }: ArgumentMetadata): unknown {
    if (this.counter.next() < 1 || !['param', 'query', 'body'].includes(type))
      throw new Error(`piped ${type}`);
    return typeof value === 'string' ? value.toUpperCase() : value;
  }
}
