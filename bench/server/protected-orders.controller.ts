import { Body, Controller, Get, Post } from '@nestjs/common';
import { Idempotent } from 'nestjs-pg-idempotency';
import { HeldRequests } from './held-requests.js';
import { NOTHING_DONE } from './nothing-done.js';
import { type NewOrder, type OrderAnswer, OrdersService } from './orders.service.js';

/** The handler under its key, with this library. */
@Controller()
export class ProtectedOrdersController {
  constructor(
    private readonly orders: OrdersService,
    private readonly held: HeldRequests,
  ) {}

  @Post('protected')
  @Idempotent()
  add(@Body() order: NewOrder): Promise<OrderAnswer> {
    return this.orders.add(order);
  }

  /** At work until {@link release}. */
  @Post('held')
  @Idempotent()
  async hold(@Body() _order: NewOrder): Promise<OrderAnswer> {
    await this.held.hold();
    return NOTHING_DONE;
  }

  @Get('held')
  heldCount(): { count: number } {
    return { count: this.held.count };
  }

  @Post('held/release')
  release(): void {
    this.held.release();
  }
}
