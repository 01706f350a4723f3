import { RequestMethod, type Type } from '@nestjs/common';

/** What Nest's decorators say about a route, as far as recording its answer depends on it. */
export interface RouteFacts {
  readonly method: RequestMethod;
  readonly isSse: boolean;
  readonly isRendered: boolean;
  /** The handler takes the platform's response (or `next`) to answer by itself. */
  readonly handlesResponse: boolean;
  readonly redirect: { readonly url: string; readonly statusCode: number | undefined } | undefined;
}

/** Keys that Nest keeps its metadata under; they are part of its decorators' contract with adapters. */
const METHOD = 'method';
const SSE = '__sse__';
const RENDER = '__renderTemplate__';
const REDIRECT = '__redirect__';
const ROUTE_ARGS = '__routeArguments__';
const RESPONSE_PASSTHROUGH = '__responsePassthrough__';
/** Kinds of route parameters, the number before the `:` of an argument's metadata key. */
const PARAM_RESPONSE = '1';
const PARAM_NEXT = '2';

/** Reads the facts of a controller's method; `undefined` when it is no route. */
export function readRoute(
  controller: abstract new (...args: never[]) => unknown,
  name: string,
  handler: (...args: unknown[]) => unknown,
): RouteFacts | undefined {
  const method = Reflect.getMetadata(METHOD, handler) as RequestMethod | undefined;
  if (method === undefined) return undefined;
  const owner = controller as Type;
  const args = (Reflect.getMetadata(ROUTE_ARGS, owner, name) ?? {}) as Record<string, unknown>;
  const takesResponse = Object.keys(args).some((key) => {
    const [kind] = key.split(':');
    return kind === PARAM_RESPONSE || kind === PARAM_NEXT;
  });
  const redirect = Reflect.getMetadata(REDIRECT, handler) as
    { url?: string; statusCode?: number } | undefined;
  return {
    method,
    isSse: Reflect.getMetadata(SSE, handler) !== undefined,
    isRendered: Reflect.getMetadata(RENDER, handler) !== undefined,
    handlesResponse: takesResponse && Reflect.getMetadata(RESPONSE_PASSTHROUGH, owner, name) !== true,
    redirect:
      redirect?.url === undefined ? undefined : { url: redirect.url, statusCode: redirect.statusCode },
  };
}
