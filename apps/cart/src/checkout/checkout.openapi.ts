import { applyDecorators } from '@nestjs/common';
import {
  ApiBadGatewayResponse,
  ApiConflictResponse,
  ApiCreatedResponse,
  ApiGatewayTimeoutResponse,
  ApiOkResponse,
  ApiOperation,
  ApiPaymentRequiredResponse,
} from '@nestjs/swagger';
import { ApiIdempotencyKey, replayed, retryAfter } from '../openapi/idempotent-route.openapi.js';
import { CheckedOutDto } from './checked-out.dto.js';

/** The OpenAPI description of a checkout. */
export function ApiCheckout(): MethodDecorator {
  return applyDecorators(
    ApiOperation({
      summary: 'Order and pay what is in a cart, exactly once per Idempotency-Key',
      description:
        'Empties the cart into an order, charges it at the payment provider, and has a confirmation sent. ' +
        'After 502, 503 and 504 the same key goes on where the attempt before it stopped.',
    }),
    ApiIdempotencyKey('this checkout'),
    ApiCreatedResponse({ type: CheckedOutDto, description: 'Ordered now.', headers: replayed('false') }),
    ApiOkResponse({
      type: CheckedOutDto,
      description: 'Ordered earlier with this key: the same answer again.',
      headers: replayed('true'),
    }),
    ApiPaymentRequiredResponse({
      description: 'The payment was declined: no order, and the lines are back in the cart.',
    }),
    ApiConflictResponse({
      description: 'The first request with this key is still in flight, or the cart is empty.',
      headers: retryAfter,
    }),
    ApiBadGatewayResponse({ description: 'The payment provider failed: try again with the same key.' }),
    ApiGatewayTimeoutResponse({
      description: 'The payment provider did not answer in time: try again with the same key.',
    }),
  );
}
