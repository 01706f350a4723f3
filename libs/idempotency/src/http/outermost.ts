import type { ApplicationConfig } from '@nestjs/core';
import { IdempotencyConfigurationError } from '../errors/configuration.error.js';
import { IdempotencyInterceptor } from './idempotency.interceptor.js';

/**
 * Moves the interceptor to the front of the global ones. Standing behind a serializer it would store, and replay, what
 * the serializer hides; standing behind an envelope it would store half an answer.
 *
 * @throws {IdempotencyConfigurationError} when the module was imported twice: two interceptors would claim one key.
 */
export function putOutermost(interceptor: IdempotencyInterceptor, config: ApplicationConfig): void {
  // Nest's own array, in the order of execution.
  const interceptors = config.getGlobalInterceptors();
  const ours = interceptors.filter((other) => other instanceof IdempotencyInterceptor);
  if (ours.length > 1) {
    throw new IdempotencyConfigurationError({
      option: 'IdempotencyModule.forRoot()',
      received: `${ours.length} imports`,
      fix: 'Import the module once, in the root module: it is global.',
    });
  }
  const position = interceptors.indexOf(interceptor);
  if (position > 0) interceptors.splice(position, 1);
  if (position !== 0) interceptors.unshift(interceptor);
}
