import { Controller, Param, Post } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { type Attempt, CurrentAttempt, Idempotent } from 'nestjs-pg-idempotency';
import { CartParams } from '../carts/dto/cart-params.dto.js';
import type { CheckedOutDto } from './checked-out.dto.js';
import { ApiCheckout } from './checkout.openapi.js';
import { CheckoutService } from './checkout.service.js';

@ApiTags('checkout')
@Controller('carts')
export class CheckoutController {
  constructor(private readonly checkouts: CheckoutService) {}

  @Post(':userId/checkout')
  @Idempotent({ mode: 'lease', onAbandoned: 'retry', scope: (request) => request.params.userId })
  @ApiCheckout()
  async checkout(
    @Param() { userId }: CartParams,
    @CurrentAttempt() attempt: Attempt,
  ): Promise<CheckedOutDto> {
    return this.checkouts.checkout(userId, attempt);
  }
}
