import { Module, type DynamicModule } from '@nestjs/common';
import { IdempotencyModule, type IdempotencyModuleOptions } from 'nestjs-pg-idempotency';
import { CartsModule } from './carts/carts.module.js';
import { DatabaseModule, type DatabaseOptions } from './database/database.module.js';
import { DemoModule } from './demo/demo.module.js';
import { HealthModule } from './health/health.module.js';

/** What the app is made of, beside how it is served. */
export interface AppModuleOptions {
  readonly database: DatabaseOptions;
  readonly idempotency: IdempotencyModuleOptions;
  /** Whether the `X-Demo-…` headers work. */
  readonly demo: boolean;
}

@Module({})
export class AppModule {
  static forRoot({ database, idempotency, demo }: AppModuleOptions): DynamicModule {
    return {
      module: AppModule,
      imports: [
        DatabaseModule.forRoot(database),
        IdempotencyModule.forRoot(idempotency),
        DemoModule.forRoot(demo),
        CartsModule,
        HealthModule,
      ],
    };
  }
}
