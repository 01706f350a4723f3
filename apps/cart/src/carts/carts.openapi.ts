import { applyDecorators } from '@nestjs/common';
import {
  ApiConflictResponse,
  ApiCreatedResponse,
  ApiHeader,
  ApiOkResponse,
  ApiOperation,
} from '@nestjs/swagger';
import { ApiIdempotencyKey, replayed, retryAfter } from '../openapi/idempotent-route.openapi.js';
import { AddedItemDto } from './dto/cart.dto.js';

/** The OpenAPI description of adding an item. */
export function ApiAddItem(): MethodDecorator {
  return applyDecorators(
    ApiOperation({
      summary: 'Add an item to a cart, exactly once per Idempotency-Key',
      description: 'Adding an item that the cart holds already raises its quantity.',
    }),
    ApiIdempotencyKey('this addition'),
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
    ApiConflictResponse({
      description:
        'The first request with this key is still in flight, or the cart holds no more of the item.',
      headers: retryAfter,
    }),
  );
}
