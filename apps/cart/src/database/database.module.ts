import { Module, type DynamicModule } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { CartItem } from '../carts/cart-item.entity.js';
import { Order } from '../orders/order.entity.js';
import { migrate } from './migrate.js';
import { CreateCartItems1764000000000 } from './migrations/1764000000000-create-cart-items.js';
import { CreateOrders1764100000000 } from './migrations/1764100000000-create-orders.js';
import { CreateOrderConfirmations1764100001000 } from './migrations/1764100001000-create-order-confirmations.js';

/** Where the database is and how many connections it may be asked for. */
export interface DatabaseOptions {
  readonly url: string;
  readonly poolSize: number;
  /** Whether statements are sent without waiting for the answers to earlier ones. */
  readonly pipeline: boolean;
}

/** The options of the app's data source. The schema is made by migrations alone. */
export function dataSourceOptions({ url, poolSize, pipeline }: DatabaseOptions): DataSourceOptions {
  return {
    type: 'postgres',
    url,
    entities: [CartItem, Order],
    migrations: [
      CreateCartItems1764000000000,
      CreateOrders1764100000000,
      CreateOrderConfirmations1764100001000,
    ],
    migrationsTableName: 'cart_migrations',
    migrationsRun: false,
    synchronize: false,
    poolSize,
    applicationName: 'cart',
    extra: { pipeline, connectionTimeoutMillis: 10_000 },
  };
}

@Module({})
export class DatabaseModule {
  /** Connects, and brings the schema up to date before anything else uses it. */
  static forRoot(options: DatabaseOptions): DynamicModule {
    return {
      module: DatabaseModule,
      imports: [
        TypeOrmModule.forRootAsync({
          // An unreachable server is said at once; whoever runs the app decides about trying again.
          useFactory: () => ({ ...dataSourceOptions(options), retryAttempts: 1 }),
          dataSourceFactory: async () => {
            const dataSource = await new DataSource(dataSourceOptions(options)).initialize();
            try {
              await migrate(dataSource);
              return dataSource;
            } catch (error) {
              await dataSource.destroy();
              throw error;
            }
          },
        }),
      ],
    };
  }
}
