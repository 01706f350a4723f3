import { finished, type Readable, Stream } from 'node:stream';
import { Injectable, type RequestMethod, StreamableFile } from '@nestjs/common';
import {
  ApplicationConfig,
  ContextIdFactory,
  DiscoveryService,
  HttpAdapterHost,
  MetadataScanner,
  ModuleRef,
  ModulesContainer,
} from '@nestjs/core';
import { REQUEST_CONTEXT_ID } from '@nestjs/core/internal';
import { UnknownRouteError } from '../errors/unknown-route.error.js';
import {
  type DetachedExchange,
  DetachedReplyError,
  type DetachedRequest,
  type OpenExchange,
  type StoredRequest,
} from '../http/detached-exchange.js';
import { exchangesOf } from '../http/detached-platform.js';
import { readRoute } from './route-facts.js';
import { RoutePipeline } from './route-pipeline.js';

export type { DetachedRequest, StoredRequest } from '../http/detached-exchange.js';

/** May put back on the request what was not stored, as `request.user`. */
export type RestoreRequest = (request: DetachedRequest) => void | Promise<void>;

type Method = (...args: unknown[]) => unknown;
type Controller = Record<string, Method>;
type Wrapper = ReturnType<DiscoveryService['getControllers']>[number];
type Run = ReturnType<RoutePipeline['create']>;

interface Route {
  readonly wrapper: Wrapper;
  readonly method: string;
  readonly requestMethod: RequestMethod;
  /** Of a controller that lives as long as the application. */
  run?: Run;
}

/** Calls the handler of a route again, in process, with a stored request and no client. */
@Injectable()
export class RouteCaller {
  #routes: ReadonlyMap<string, readonly Route[]> | undefined;
  #platform: { readonly pipeline: RoutePipeline; readonly open: OpenExchange } | undefined;

  constructor(
    private readonly discovery: DiscoveryService,
    private readonly scanner: MetadataScanner,
    private readonly modules: ModulesContainer,
    private readonly config: ApplicationConfig,
    private readonly adapterHost: HttpAdapterHost,
  ) {}

  /** Whether exactly one controller of the application has the route (`CheckoutController.checkout`). */
  has(route: string): boolean {
    return this.#named(route).length === 1;
  }

  /**
   * Runs the route's interceptors (global, controller, method), pipes and handler; neither guards nor middleware nor
   * exception filters. Status and headers go to a response that is never sent; interceptors see it.
   *
   * @returns what the interceptors made of the handler's result; the last value of an Observable.
   * @throws {UnknownRouteError} when no controller has the route, or several have it.
   * @throws what the route threw, or `restore`.
   */
  async call(request: StoredRequest, restore?: RestoreRequest): Promise<unknown> {
    const [route, ...others] = this.#named(request.route);
    if (!route) throw new UnknownRouteError(request.route, 'no controller of the application has this route');
    if (others.length > 0) {
      // Running the wrong one is worse than running none.
      throw new UnknownRouteError(request.route, 'several controllers have this name; give each its own');
    }
    const { open, pipeline } = this.#getPlatform();
    const exchange = await open(request, callbackOf(route));
    let result: unknown;
    try {
      await restore?.(exchange.request);
      const run = await this.#runOf(route, exchange.request);
      await run(exchange.request, exchange.response, refuseNext);
      result = pipeline.resultFor(exchange.response);
    } catch (error) {
      exchange.close();
      throw error;
    }
    closeAfter(result, exchange);
    return result;
  }

  async #runOf(route: Route, request: DetachedRequest): Promise<Run> {
    const { wrapper } = route;
    if (wrapper.isDependencyTreeStatic()) {
      route.run ??= this.#create(route, wrapper.instance as Controller);
      return route.run;
    }
    // As the router does for each request: an instance of its own, and the request as REQUEST.
    const contextId = ContextIdFactory.getByRequest(request);
    const moduleRef = moduleOf(wrapper).getProviderByKey<ModuleRef>(ModuleRef).instance;
    if (!Reflect.has(request, REQUEST_CONTEXT_ID)) {
      Object.defineProperty(request, REQUEST_CONTEXT_ID, { value: contextId });
      const { payload } = contextId as { payload?: unknown };
      const provided = wrapper.isDependencyTreeDurable() ? payload : Object.assign(request, payload);
      moduleRef.registerRequestByContextId(provided, contextId);
    }
    const token = wrapper.token as Parameters<ModuleRef['resolve']>[0];
    const instance = await moduleRef.resolve<Controller>(token, contextId, { strict: true });
    return this.#create(route, instance, contextId);
  }

  #create(route: Route, instance: Controller, contextId?: Parameters<RoutePipeline['create']>[5]): Run {
    const { wrapper, method, requestMethod } = route;
    return this.#getPlatform().pipeline.create(
      instance,
      // Of the instance, now: the method may have been replaced since it was declared.
      instance[method] as Method,
      method,
      moduleOf(wrapper).token,
      requestMethod,
      contextId,
      wrapper.id,
    );
  }

  /** The adapter is known once the application is made, which is after its providers. */
  #getPlatform(): { readonly pipeline: RoutePipeline; readonly open: OpenExchange } {
    const adapter = this.adapterHost.httpAdapter;
    this.#platform ??= {
      pipeline: new RoutePipeline(this.modules, this.config, adapter),
      open: exchangesOf(adapter),
    };
    return this.#platform;
  }

  #named(name: string): readonly Route[] {
    this.#routes ??= this.#scan();
    return this.#routes.get(name) ?? [];
  }

  #scan(): Map<string, Route[]> {
    const routes = new Map<string, Route[]>();
    for (const wrapper of this.discovery.getControllers()) {
      const { metatype: controller } = wrapper;
      if (typeof controller !== 'function') continue;
      const prototype = controller.prototype as Controller;
      for (const method of this.scanner.getAllMethodNames(prototype)) {
        const facts = readRoute(controller as new () => unknown, method, prototype[method] as Method);
        if (!facts) continue;
        const name = `${controller.name}.${method}`;
        const route = { wrapper, method, requestMethod: facts.method };
        routes.set(name, [...(routes.get(name) ?? []), route]);
      }
    }
    return routes;
  }
}

function callbackOf({ wrapper, method }: Route): Method {
  return (wrapper.metatype as { prototype: Controller }).prototype[method] as Method;
}

function moduleOf({ host, name }: Wrapper): NonNullable<Wrapper['host']> {
  if (!host) throw new Error(`controller ${String(name)} belongs to no module`);
  return host;
}

function refuseNext(): never {
  throw new DetachedReplyError('next');
}

/** A stream may read from what the handler holds open until the connection closes: it is read by the caller, later. */
function closeAfter(result: unknown, exchange: DetachedExchange): void {
  const stream: unknown = result instanceof StreamableFile ? result.getStream() : result;
  if (stream instanceof Stream) finished(stream as Readable, () => exchange.close());
  else exchange.close();
}
