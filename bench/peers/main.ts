// The server of the other layers, with the NestJS they support, as ../server/main.ts is that of this library.
import { type INestApplication, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import { NodeIdempotencyModule } from '@node-idempotency/nestjs';
import { StorageAdapterEnum } from '@node-idempotency/shared';
import { databaseOptions, Order } from '../server/orders.js';
import { OrdersService } from '../server/orders.service.js';
import { PlainOrdersController } from '../server/plain-orders.controller.js';
import { serve } from '../server/serve.js';
import { readSettings } from '../server/settings.js';
import { expressIdempotency } from './express-idempotency.js';
import { NodeIdempotencyController } from './node-idempotency.controller.js';

const settings = readSettings();
const isProtected = settings.protection === 'redis';

@Module({
  imports: [
    TypeOrmModule.forRoot(databaseOptions(settings)),
    TypeOrmModule.forFeature([Order]),
    ...(isProtected
      ? [
          NodeIdempotencyModule.forRootAsync({
            storage: { adapter: StorageAdapterEnum.redis, options: { url: settings.redisUrl } },
          }),
        ]
      : []),
  ],
  controllers: [PlainOrdersController, ...(isProtected ? [NodeIdempotencyController] : [])],
  providers: [OrdersService],
})
class BenchModule {}

const app: INestApplication = await NestFactory.create(BenchModule, { logger: ['error', 'warn'] });
if (isProtected) app.use('/express-idempotency', await expressIdempotency(settings.redisUrl));
await serve(app);
