import { Module, type DynamicModule } from '@nestjs/common';
import { IdempotencyModule, type IdempotencyModuleOptions } from 'nestjs-pg-idempotency';
import { CartsModule } from './carts/carts.module.js';
import { CheckoutModule } from './checkout/checkout.module.js';
import type { PaymentProviderOptions } from './checkout/payment-provider.client.js';
import { ConfirmationsModule } from './confirmations/confirmations.module.js';
import { DatabaseModule, type DatabaseOptions } from './database/database.module.js';
import { DemoModule } from './demo/demo.module.js';
import { HealthModule } from './health/health.module.js';
import { OrdersModule } from './orders/orders.module.js';

/** What the app is made of, beside how it is served. */
export interface AppModuleOptions {
  readonly database: DatabaseOptions;
  readonly idempotency: IdempotencyModuleOptions;
  readonly paymentProvider: PaymentProviderOptions;
  /** Whether this instance sends the confirmations of orders. */
  readonly confirmations: boolean;
  /** Whether the `X-Demo-…` headers work. */
  readonly demo: boolean;
}

@Module({})
export class AppModule {
  static forRoot(options: AppModuleOptions): DynamicModule {
    const { database, idempotency, paymentProvider, confirmations, demo } = options;
    return {
      module: AppModule,
      imports: [
        DatabaseModule.forRoot(database),
        IdempotencyModule.forRoot(idempotency),
        DemoModule.forRoot(demo),
        ConfirmationsModule.forRoot({ databaseUrl: database.url, enabled: confirmations }),
        CartsModule,
        OrdersModule,
        CheckoutModule.forRoot(paymentProvider),
        HealthModule,
      ],
    };
  }
}
