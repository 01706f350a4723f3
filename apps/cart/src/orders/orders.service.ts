import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { Not, Repository } from 'typeorm';
import type { OrderDto } from './dto/order.dto.js';
import { Order, type OrderLine } from './order.entity.js';

@Injectable()
export class OrdersService {
  constructor(@InjectRepository(Order) private readonly orders: Repository<Order>) {}

  /** Makes an order that is not charged yet. */
  async reserve(userId: string, lines: OrderLine[]): Promise<{ orderId: string; totalQuantity: number }> {
    const totalQuantity = lines.reduce((total, { quantity }) => total + quantity, 0);
    const { orderId } = await this.orders.save({ userId, lines, totalQuantity, state: 'reserved' });
    return { orderId, totalQuantity };
  }

  /** @throws Error when there is no such reserved order: then nothing that stands beside it may be committed. */
  async confirm(orderId: string, chargeId: string): Promise<void> {
    const { affected } = await this.orders.update(
      { orderId, state: 'reserved' },
      { state: 'confirmed', chargeId },
    );
    if (affected !== 1) throw new Error(`order ${orderId} is not reserved`);
  }

  /**
   * Ends an order that will not be charged, and answers what was in it.
   *
   * @throws Error when there is no such reserved order.
   */
  async cancel(orderId: string): Promise<OrderLine[]> {
    const { affected } = await this.orders.update({ orderId, state: 'reserved' }, { state: 'cancelled' });
    if (affected !== 1) throw new Error(`order ${orderId} is not reserved`);
    return (await this.orders.findOneByOrFail({ orderId })).lines;
  }

  /** A user's orders, oldest first, without those that came to nothing. */
  async list(userId: string): Promise<OrderDto[]> {
    const orders = await this.orders.find({
      where: { userId, state: Not('cancelled') },
      order: { createdAt: 'ASC', orderId: 'ASC' },
    });
    return orders.map(({ orderId, chargeId, totalQuantity }) => ({ orderId, chargeId, totalQuantity }));
  }
}
