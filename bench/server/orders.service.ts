import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { EntityManager, Repository } from 'typeorm';
import { Order } from './orders.js';

export interface NewOrder {
  readonly item: string;
  readonly quantity: number;
}

export interface OrderAnswer {
  readonly id: number;
  readonly item: string;
  readonly quantity: number;
  readonly createdAt: string;
}

/** The handler that all workloads share: one row written, and read again. It knows nothing of idempotency. */
@Injectable()
export class OrdersService {
  constructor(@InjectRepository(Order) private readonly orders: Repository<Order>) {}

  async add({ item, quantity }: NewOrder, manager?: EntityManager): Promise<OrderAnswer> {
    const orders = manager ? manager.getRepository(Order) : this.orders;
    const { id } = await orders.save({ item, quantity });
    const order = await orders.findOneByOrFail({ id });
    return { id, item: order.item, quantity: order.quantity, createdAt: order.createdAt.toISOString() };
  }
}
