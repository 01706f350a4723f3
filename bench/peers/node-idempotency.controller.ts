import { Body, Controller, Post } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { Idempotent } from '@node-idempotency/nestjs';
import type { DataSource } from 'typeorm';
import { type NewOrder, type OrderAnswer, OrdersService } from '../server/orders.service.js';

/** The handler in a transaction of its own, behind each of the other layers. */
@Controller()
export class NodeIdempotencyController {
  constructor(
    private readonly orders: OrdersService,
    @InjectDataSource() private readonly dataSource: DataSource,
  ) {}

  @Post('node-idempotency')
  @Idempotent()
  add(@Body() order: NewOrder): Promise<OrderAnswer> {
    return this.#add(order);
  }

  /** Behind the middleware of `express-idempotency`. */
  @Post('express-idempotency')
  addBehindMiddleware(@Body() order: NewOrder): Promise<OrderAnswer> {
    return this.#add(order);
  }

  #add(order: NewOrder): Promise<OrderAnswer> {
    return this.dataSource.transaction((manager) => this.orders.add(order, manager));
  }
}
