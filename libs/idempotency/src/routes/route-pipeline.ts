import { StreamableFile } from '@nestjs/common';
import type { ApplicationConfig, ModulesContainer, NestContainer } from '@nestjs/core';
import {
  GuardsConsumer,
  GuardsContextCreator,
  InterceptorsConsumer,
  InterceptorsContextCreator,
  PipesConsumer,
  PipesContextCreator,
} from '@nestjs/core/internal';
import { RouteParamsFactory } from '@nestjs/core/router/route-params-factory.js';
import { RouterExecutionContext } from '@nestjs/core/router/router-execution-context.js';
import { isObservable, lastValueFrom } from 'rxjs';

type Adapter = RouterExecutionContext['applicationRef'];
type HandleResponse = ReturnType<RouterExecutionContext['createHandleResponseFn']>;

/**
 * Nest's own way from a request to a route's result, with all of the router's rules: status and headers from
 * decorators, then interceptors, pipes and handler. Guards are left out, and the result is kept instead of sent.
 *
 * `ExternalContextCreator` would be the public way, but is made for providers: it finds no enhancers that controllers
 * name by their class, runs pipes over the request and the response, and awaits a Fastify reply, which is a promise.
 */
export class RoutePipeline extends RouterExecutionContext {
  readonly #results = new WeakMap<object, unknown>();

  constructor(modules: ModulesContainer, config: ApplicationConfig, adapter: Adapter) {
    // The container itself cannot be injected; of it, only the modules are asked for.
    const container = { getModules: () => modules } as NestContainer;
    super(
      new RouteParamsFactory(config),
      new PipesContextCreator(container, config),
      new PipesConsumer(),
      new GuardsContextCreator(container, config),
      new GuardsConsumer(),
      new InterceptorsContextCreator(container, config),
      new InterceptorsConsumer(),
      adapter,
    );
  }

  /** What the interceptors made of the handler's result, once the route has run for this response. */
  resultFor(response: object): unknown {
    return this.#results.get(response);
  }

  /** Who may do this was decided when the request came. */
  override createGuardsFn(): null {
    return null;
  }

  override createHandleResponseFn(): HandleResponse {
    return async (result: unknown, response: object, _request: unknown, _?: unknown, streams?: unknown[]) => {
      try {
        this.#results.set(response, isObservable(result) ? await lastValueFrom(result) : result);
      } catch (error) {
        // An interceptor failed with a stream in hand, which may hold a file open.
        streams?.forEach(destroyStream);
        throw error;
      }
    };
  }
}

function destroyStream(value: unknown): void {
  const stream: unknown = value instanceof StreamableFile ? value.getStream() : value;
  (stream as { destroy?: () => void }).destroy?.();
}
