import { Injectable, Logger } from '@nestjs/common';
import { ConfirmationQueue } from './confirmation.queue.js';

/**
 * Sends the confirmation of an order, once however often it is told to. The row stands for the call of a mail provider,
 * whose own memory of the order's id, given as its idempotency key, would do what the primary key does here.
 */
@Injectable()
export class ConfirmationSender {
  readonly #logger = new Logger(ConfirmationSender.name);

  constructor(private readonly queue: ConfirmationQueue) {}

  async send(orderId: string): Promise<void> {
    const { rowCount } = await this.queue.pool.query(
      `INSERT INTO order_confirmations (order_id, sent_at) VALUES ($1, clock_timestamp())
       ON CONFLICT (order_id) DO NOTHING`,
      [orderId],
    );
    if (rowCount === 1) this.#logger.log(`order ${orderId} confirmed`);
  }
}
