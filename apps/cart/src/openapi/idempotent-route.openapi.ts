import { applyDecorators } from '@nestjs/common';
import {
  ApiBadRequestResponse,
  ApiHeader,
  ApiServiceUnavailableResponse,
  ApiUnprocessableEntityResponse,
} from '@nestjs/swagger';

/** The header that goes with answers that tell to come again. */
export const retryAfter = {
  'Retry-After': { description: 'Seconds to wait.', schema: { type: 'integer' } },
} as const;

/** The header that tells a first answer from a replay. */
export const replayed = (value: 'true' | 'false') => ({
  'Idempotent-Replayed': { description: `\`${value}\``, schema: { type: 'string' as const, enum: [value] } },
});

/** What every route with a required key has: the header, and the answers about it. */
export function ApiIdempotencyKey(names: string): MethodDecorator {
  return applyDecorators(
    ApiHeader({
      name: 'Idempotency-Key',
      required: true,
      description: `Names ${names}: 1 to 255 printable ASCII characters, new for each, the same on retries.`,
      schema: { type: 'string', minLength: 1, maxLength: 255 },
      example: '8e03978e-40d5-43e8-bc93-6894a57f9324',
    }),
    ApiBadRequestResponse({ description: 'The key is missing or malformed, or the request is not valid.' }),
    ApiUnprocessableEntityResponse({ description: 'The key was used for a different request.' }),
    ApiServiceUnavailableResponse({ description: 'Nothing is known yet: try again.', headers: retryAfter }),
  );
}
