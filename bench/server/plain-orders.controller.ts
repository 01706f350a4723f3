import { Body, ConflictException, Controller, Headers, HttpCode, Post } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import type { DataSource } from 'typeorm';
import { NOTHING_DONE } from './nothing-done.js';
import { type NewOrder, type OrderAnswer, OrdersService } from './orders.service.js';

/** The handler in the ways that the protected one is compared with. */
@Controller()
export class PlainOrdersController {
  constructor(
    private readonly orders: OrdersService,
    @InjectDataSource() private readonly dataSource: DataSource,
  ) {}

  /** In a transaction of its own. */
  @Post('plain')
  plain(@Body() order: NewOrder): Promise<OrderAnswer> {
    return this.dataSource.transaction((manager) => this.orders.add(order, manager));
  }

  /** In no transaction but the one that `save()` opens. */
  @Post('autocommit')
  autocommit(@Body() order: NewOrder): Promise<OrderAnswer> {
    return this.orders.add(order);
  }

  @Post('noop')
  noop(@Body() _order: NewOrder): OrderAnswer {
    return NOTHING_DONE;
  }

  /** The record that many services write by hand: a status column, and no transaction around it and the handler's rows. */
  @Post('by-hand')
  @HttpCode(201)
  async byHand(
    @Headers('idempotency-key') key: string,
    @Body() order: NewOrder,
  ): Promise<OrderAnswer | null> {
    const found: { status: string; result: OrderAnswer | null }[] = await this.dataSource.query(
      'SELECT status, result FROM bench_by_hand WHERE key = $1',
      [key],
    );
    const [existing] = found;
    if (existing?.status === 'completed') return existing.result;
    if (existing?.status === 'pending') throw new ConflictException('Request is being processed');
    try {
      await this.dataSource.query(`INSERT INTO bench_by_hand (key, status) VALUES ($1, 'pending')`, [key]);
      const answer = await this.orders.add(order);
      await this.dataSource.query(
        `UPDATE bench_by_hand SET status = 'completed', result = $2 WHERE key = $1`,
        [key, JSON.stringify(answer)],
      );
      return answer;
    } catch (error) {
      await this.dataSource.query(`UPDATE bench_by_hand SET status = 'error', result = $2 WHERE key = $1`, [
        key,
        JSON.stringify(String(error)),
      ]);
      throw error;
    }
  }
}
