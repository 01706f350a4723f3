import { createParamDecorator } from '@nestjs/common';
import { currentContext } from '../transaction/attempt-context.js';
import type { Attempt } from '../transaction/attempt.js';

/**
 * Injects the {@link Attempt} into a parameter of an idempotent handler: its key, scope, number, and the transaction's
 * `EntityManager`. `undefined` when the request runs unprotected (`required: false` and no key).
 */
export const CurrentAttempt: () => ParameterDecorator = createParamDecorator(
  (): Attempt | undefined => currentContext()?.attempt,
);
