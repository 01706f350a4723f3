import { ConflictException, HttpException, HttpStatus, Injectable } from '@nestjs/common';
import { InjectEntityManager } from '@nestjs/typeorm';
import type { Attempt } from 'nestjs-pg-idempotency';
import { EntityManager } from 'typeorm';
import { CartsService } from '../carts/carts.service.js';
import { ConfirmationQueue } from '../confirmations/confirmation.queue.js';
import { OrdersService } from '../orders/orders.service.js';
import type { CheckedOutDto } from './checked-out.dto.js';
import { PaymentProvider } from './payment-provider.client.js';

/** Items of this sample carry no price: every one costs the same. */
const CENTS_PER_ITEM = 100;

@Injectable()
export class CheckoutService {
  constructor(
    private readonly carts: CartsService,
    private readonly orders: OrdersService,
    private readonly provider: PaymentProvider,
    private readonly confirmations: ConfirmationQueue,
    @InjectEntityManager() private readonly manager: EntityManager,
  ) {}

  /**
   * Orders and pays what is in the cart. No transaction is open while the provider is called; an attempt that comes
   * after a failure goes on behind the last phase or step that was done.
   */
  async checkout(userId: string, attempt: Attempt): Promise<CheckedOutDto> {
    const { orderId, totalQuantity } = await attempt.phase('reserve', async () => this.reserve(userId));

    // The outcome is what is kept, also when it is a refusal: a later attempt must not take the other way.
    const charge = await attempt.step('charge', async () =>
      this.provider.charge({
        key: attempt.downstreamKey('charge'),
        amount: totalQuantity * CENTS_PER_ITEM,
        signal: attempt.signal,
      }),
    );

    if (charge.kind === 'declined') {
      await attempt.phase('cancel', async () => this.cancel(userId, orderId));
      // Outside of the phase, which it would roll back.
      throw new HttpException(
        'The payment was declined. Nothing was ordered, and the cart is as it was.',
        HttpStatus.PAYMENT_REQUIRED,
      );
    }
    await attempt.phase('confirm', async () => this.confirm(orderId, charge.chargeId));
    return { orderId, chargeId: charge.chargeId, totalQuantity };
  }

  private async reserve(userId: string): Promise<{ orderId: string; totalQuantity: number }> {
    const lines = await this.carts.takeAll(userId);
    if (lines.length === 0) throw new ConflictException('The cart is empty: there is nothing to check out');
    return this.orders.reserve(userId, lines);
  }

  private async confirm(orderId: string, chargeId: string): Promise<void> {
    await this.orders.confirm(orderId, chargeId);
    // In the phase's transaction: a confirmed order has its job, and there is no job for anything else.
    await this.confirmations.enqueue(this.manager, orderId);
  }

  private async cancel(userId: string, orderId: string): Promise<void> {
    await this.carts.putBack(userId, await this.orders.cancel(orderId));
  }
}
