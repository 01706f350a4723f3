import type { IdempotentRequest } from './request.js';
import { canonicalBody } from './canonical-body.js';
import { sha256Of } from './sha256.js';
import { normalisePath, normaliseQuery } from './normalise-url.js';

/** What a retry must repeat. */
export interface FingerprintParts {
  readonly namespace: string;
  readonly scope: string;
  readonly method: string;
  /** Path and query string as the client sent them. */
  readonly originalUrl: string;
  /** The parsed body, or what the route's `fingerprint` option made of the request. */
  readonly body: unknown;
}

/**
 * SHA-256 of what a retry must repeat. Equal for requests that mean the same: members of JSON objects in another order,
 * query parameters in another order, `%7e` for `~`, a trailing slash. Different for any other difference in method,
 * path, query or body; an absent body differs from `null`, `0`, `""` and `false`.
 *
 * The body is taken as parsed: `1.0` and `1` are one number, and integers beyond 2^53 are what JavaScript made of them,
 * because that is what the handler works with.
 *
 * @throws UnfingerprintableBodyError when the body is not JSON, text or bytes, or nested too deep
 */
export function fingerprintOf({ namespace, scope, method, originalUrl, body }: FingerprintParts): Buffer {
  const { pathname, search } = splitUrl(originalUrl);
  const { tag, bytes } = canonicalBody(body);
  return sha256Of([
    namespace,
    scope,
    method.toUpperCase(),
    normalisePath(pathname),
    normaliseQuery(search),
    tag,
    bytes,
  ]);
}

/**
 * Whether the client sent a body that no parser took: two such requests cannot be told apart, whatever they carry.
 * A body parsed to `null` was parsed; both platforms leave `undefined` where none was.
 */
export function hasUnparsedBody(request: Pick<IdempotentRequest, 'headers' | 'body'>): boolean {
  if (request.body !== undefined) return false;
  const { 'content-length': length, 'transfer-encoding': encoding } = request.headers;
  return encoding !== undefined || (length !== undefined && Number(length) !== 0);
}

/** Where Express and Fastify keep the route that serves a request. */
interface RoutedRequest extends IdempotentRequest {
  readonly route?: { readonly path?: unknown };
  readonly routeOptions?: { readonly url?: unknown };
}

/** Method and route for people, as `POST /carts/:userId/items`; the path where the route has no pattern of text. */
export function operationOf(request: IdempotentRequest): string {
  return `${request.method.toUpperCase()} ${patternOf(request) ?? splitUrl(request.originalUrl).pathname}`;
}

/** The route's path with its parameters, as `/carts/:userId/items`; `undefined` where it is no text. */
export function patternOf({ route, routeOptions }: RoutedRequest): string | undefined {
  return [route?.path, routeOptions?.url].find((path) => typeof path === 'string');
}

function splitUrl(url: string): { pathname: string; search: string } {
  // A proxy may send the absolute form (RFC 9112, section 3.2.2).
  const target = url.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?]*/i, '');
  const query = target.indexOf('?');
  if (query === -1) return { pathname: target, search: '' };
  return { pathname: target.slice(0, query), search: target.slice(query + 1) };
}
