import { Injectable, Logger, RequestMethod } from '@nestjs/common';
import { DiscoveryService, MetadataScanner, Reflector } from '@nestjs/core';
import { IDEMPOTENT_METADATA } from '../decorators/idempotent.decorator.js';
import { IdempotencyConfigurationError } from '../errors/configuration.error.js';
import type { IdempotencyModuleOptions, IdempotentOptions } from '../idempotency.options.js';
import { resolveRoute, type RoutePlan } from '../resolve-options.js';
import { markBeginning } from './mark-beginning.js';
import { readRoute, type RouteFacts } from './route-facts.js';

type Method = (...args: unknown[]) => unknown;
type Controller = abstract new (...args: never[]) => unknown;

/** A protected route: its options, and what its decorators say about the answer. */
export interface ProtectedRoute extends RoutePlan {
  /** Class and method, as `CheckoutController.checkout`. */
  readonly name: string;
  /** Set by `@Redirect()`: the answer is a redirect, whatever the handler returns. */
  readonly redirect: { readonly url: string; readonly statusCode: number | undefined } | undefined;
}

/** Methods that take a key (draft-07, section 1); `ALL` is looked at per request. */
const KEYED_METHODS: ReadonlySet<RequestMethod> = new Set([
  RequestMethod.POST,
  RequestMethod.PATCH,
  RequestMethod.ALL,
]);

/** Finds the idempotent routes at start, checks them, and knows their options at run time. */
@Injectable()
export class RouteRegistry {
  readonly #logger = new Logger('IdempotencyModule');
  readonly #routes = new Map<Controller, Map<unknown, ProtectedRoute>>();

  constructor(
    private readonly discovery: DiscoveryService,
    private readonly scanner: MetadataScanner,
    private readonly reflector: Reflector,
  ) {}

  find(controller: Controller, handler: unknown): ProtectedRoute | undefined {
    return this.#routes.get(controller)?.get(handler);
  }

  /** The protected route of that class and method; `undefined` also when two classes have one name. */
  named(name: string): ProtectedRoute | undefined {
    const found = [...this.#routes.values()].flatMap((handlers) =>
      [...handlers.values()].filter((route) => route.name === name),
    );
    return found.length === 1 ? found[0] : undefined;
  }

  /**
   * Registers every route that `@Idempotent()` covers. Runs before Nest makes its routes.
   *
   * @throws {IdempotencyConfigurationError} for a route whose answer cannot be recorded, or whose options conflict.
   */
  register(defaults: IdempotencyModuleOptions): void {
    for (const wrapper of this.discovery.getControllers()) {
      const controller = wrapper.metatype as Controller | null;
      if (typeof controller !== 'function') continue;
      for (const name of this.scanner.getAllMethodNames(controller.prototype as object)) {
        this.#registerRoute(controller, name, defaults);
      }
    }
    for (const { metatype } of this.discovery.getProviders()) this.#refuseProvider(metatype);
  }

  /** Resolvers, gateways, services: nothing would look at the decorator there, and every retry would run. */
  #refuseProvider(provider: unknown): void {
    if (typeof provider !== 'function' || typeof provider.prototype !== 'object') return;
    const prototype = provider.prototype as Record<string, Method> | null;
    if (prototype === null) return;
    const owner = provider as unknown as Controller;
    const names = this.scanner.getAllMethodNames(prototype);
    const isRoute = (name: string): boolean =>
      readRoute(owner, name, prototype[name] as Method) !== undefined;
    if (this.#optionsOf(owner) && !names.some(isRoute)) {
      refuse(owner.name, 'a class without HTTP routes', NO_ROUTE);
    }
    for (const name of names) {
      if (this.#optionsOf(prototype[name]) && !isRoute(name)) {
        refuse(`${owner.name}.${name}`, 'a method that is no HTTP route', NO_ROUTE);
      }
    }
  }

  #optionsOf(target: unknown): IdempotentOptions | undefined {
    if (typeof target !== 'function') return undefined;
    return this.reflector.get<IdempotentOptions | undefined>(IDEMPOTENT_METADATA, target as Method);
  }

  #registerRoute(controller: Controller, name: string, defaults: IdempotencyModuleOptions): void {
    const method = (controller.prototype as Record<string, Method>)[name];
    if (typeof method !== 'function') return;
    const route = readRoute(controller, name, method);
    const ofClass = this.#optionsOf(controller);
    const ofMethod = this.#optionsOf(method);
    if (!ofClass && !ofMethod) return;
    const where = `${controller.name}.${name}`;
    if (!route) {
      // Helpers of a decorated class are no routes either.
      if (ofMethod) refuse(where, 'a method that is no HTTP route', NO_ROUTE);
      return;
    }
    if (!KEYED_METHODS.has(route.method)) {
      // Safe and idempotent methods need no key; Stripe ignores it there too.
      if (ofMethod) {
        // @Sse() makes its route a GET: whoever decorates it expects more than a GET is given.
        if (route.isSse) refuseUnrecordable(where, route);
        this.#logger.warn(
          `@Idempotent() on ${where} does nothing: ${RequestMethod[route.method]} is not POST or PATCH. Remove it.`,
        );
      }
      return;
    }
    refuseUnrecordable(where, route);
    const handlers = this.#routes.get(controller) ?? new Map<unknown, ProtectedRoute>();
    this.#routes.set(controller, handlers);
    handlers.set(markBeginning(controller, name, method), {
      ...this.#resolve(where, { ...defaults, ...defined(ofClass), ...defined(ofMethod) }),
      name: where,
      redirect: route.redirect,
    });
  }

  #resolve(where: string, options: IdempotentOptions): RoutePlan {
    try {
      return resolveRoute(options);
    } catch (error) {
      if (error instanceof IdempotencyConfigurationError) error.message = `${where}: ${error.message}`;
      throw error;
    }
  }
}

/** Options that were set: `undefined` means "as the class or module says". */
function defined(options: IdempotentOptions | undefined): IdempotentOptions {
  return Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => value !== undefined));
}

const NO_ROUTE =
  'Only POST and PATCH routes of HTTP controllers are protected: take the decorator away, or move it to the route.';

function refuse(where: string, received: string, fix: string): never {
  throw new IdempotencyConfigurationError({ option: `@Idempotent() on ${where}`, received, fix });
}

/** Fail closed: an answer that bypasses the interceptor would leave a record without it, and its key in flight. */
function refuseUnrecordable(where: string, route: RouteFacts): void {
  if (route.isSse)
    refuse(where, '@Sse()', 'A stream of events cannot be recorded and replayed: take one of them away.');
  if (route.isRendered) {
    refuse(
      where,
      '@Render()',
      'A rendered page is made after the answer is recorded: return its data, or its HTML, instead.',
    );
  }
  if (route.handlesResponse) {
    refuse(
      where,
      '@Res() or @Next() without passthrough',
      'The handler would answer by itself, before its effect is committed: use @Res({ passthrough: true }) and return the body.',
    );
  }
}
