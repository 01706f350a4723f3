import { applyDecorators } from '@nestjs/common';
import {
  ApiBadRequestResponse,
  ApiConflictResponse,
  ApiCreatedResponse,
  ApiHeader,
  ApiOkResponse,
  ApiOperation,
  ApiServiceUnavailableResponse,
  ApiUnprocessableEntityResponse,
} from '@nestjs/swagger';
import { AddedItemDto } from './dto/cart.dto.js';

const retryAfter = {
  'Retry-After': { description: 'Seconds to wait.', schema: { type: 'integer' } },
} as const;
const replayed = (value: 'true' | 'false') => ({
  'Idempotent-Replayed': { description: `\`${value}\``, schema: { type: 'string' as const, enum: [value] } },
});

/** The OpenAPI description of adding an item. */
export function ApiAddItem(): MethodDecorator {
  return applyDecorators(
    ApiOperation({
      summary: 'Add an item to a cart, exactly once per Idempotency-Key',
      description: 'Adding an item that the cart holds already raises its quantity.',
    }),
    ApiHeader({
      name: 'Idempotency-Key',
      required: true,
      description:
        'Names this addition: 1 to 255 printable ASCII characters, new for each, the same on retries.',
      schema: { type: 'string', minLength: 1, maxLength: 255 },
      example: '8e03978e-40d5-43e8-bc93-6894a57f9324',
    }),
    ApiHeader({
      name: 'X-Demo-Delay-Ms',
      required: false,
      description: 'Holds the handler after its write, up to 10000 ms. Ignored in production.',
      schema: { type: 'integer', minimum: 0, maximum: 10_000 },
    }),
    ApiHeader({
      name: 'X-Demo-Fail',
      required: false,
      description: 'Makes the handler fail after its write. Ignored in production.',
      schema: { type: 'string', enum: ['after-write'] },
    }),
    ApiCreatedResponse({ type: AddedItemDto, description: 'Added now.', headers: replayed('false') }),
    ApiOkResponse({
      type: AddedItemDto,
      description: 'Added earlier with this key: the same answer again.',
      headers: replayed('true'),
    }),
    ApiBadRequestResponse({ description: 'The key is missing or malformed, or the request is not valid.' }),
    ApiConflictResponse({
      description:
        'The first request with this key is still in flight, or the cart holds no more of the item.',
      headers: retryAfter,
    }),
    ApiUnprocessableEntityResponse({ description: 'The key was used for a different request.' }),
    ApiServiceUnavailableResponse({ description: 'Nothing is known yet: try again.', headers: retryAfter }),
  );
}
