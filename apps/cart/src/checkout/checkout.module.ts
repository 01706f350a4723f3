import { Module, type DynamicModule } from '@nestjs/common';
import { CartsModule } from '../carts/carts.module.js';
import { OrdersModule } from '../orders/orders.module.js';
import { CheckoutController } from './checkout.controller.js';
import { CheckoutService } from './checkout.service.js';
import {
  PAYMENT_PROVIDER_OPTIONS,
  PaymentProvider,
  type PaymentProviderOptions,
} from './payment-provider.client.js';

@Module({})
export class CheckoutModule {
  static forRoot(provider: PaymentProviderOptions): DynamicModule {
    return {
      module: CheckoutModule,
      imports: [CartsModule, OrdersModule],
      controllers: [CheckoutController],
      providers: [
        CheckoutService,
        PaymentProvider,
        { provide: PAYMENT_PROVIDER_OPTIONS, useValue: provider },
      ],
    };
  }
}
