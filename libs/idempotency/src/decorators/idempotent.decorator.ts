import { SetMetadata } from '@nestjs/common';
import type { IdempotentOptions } from '../idempotency.options.js';
import { checkRouteNames, resolveRoute } from '../resolve-options.js';

/** A fixed key, so that two installed copies of the package still see each other's routes. */
export const IDEMPOTENT_METADATA = 'nestjs-pg-idempotency:options';

/**
 * Makes a route idempotent: however often a request with the same `Idempotency-Key` arrives, its handler's effect on
 * the database happens once, and every caller gets the one answer.
 *
 * On a method it protects that route. On a class it protects every POST and PATCH route; GET, HEAD, OPTIONS, PUT and
 * DELETE are idempotent by definition (RFC 9110, section 9.2.2) and left alone. Options of a method win over those of
 * its class, and those over the module's.
 *
 * @throws {IdempotencyConfigurationError} when declared with a value that cannot be right.
 */
export function Idempotent(options: IdempotentOptions = {}): MethodDecorator & ClassDecorator {
  checkRouteNames(options, '@Idempotent()');
  // Checked on their own here, so that the stack points at the declaration; a conflict with the class's or the
  // module's options is found at start.
  resolveRoute(
    options.ttl === undefined || options.maxRuntime === undefined ? withoutTimes(options) : options,
  );
  return SetMetadata(IDEMPOTENT_METADATA, options);
}

/** `ttl` and `leaseTtl` are compared with `maxRuntime`, which may come from elsewhere. */
function withoutTimes(options: IdempotentOptions): IdempotentOptions {
  return {
    ...options,
    ttl: options.ttl ?? '36500d',
    maxRuntime: options.maxRuntime ?? options.leaseTtl ?? 1,
  };
}
