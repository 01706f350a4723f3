// The server of the other layers, with the NestJS they support, as ../server/main.ts is that of this library.
import { type INestApplication, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import { NodeIdempotencyModule } from '@node-idempotency/nestjs';
import { StorageAdapterEnum } from '@node-idempotency/shared';
import { answerCommands } from '../server/commands.js';
import { Order } from '../server/orders.js';
import { OrdersService } from '../server/orders.service.js';
import { PlainOrdersController } from '../server/plain-orders.controller.js';
import type { ServerSettings } from '../server/settings.js';
import { expressIdempotency } from './express-idempotency.js';
import { NodeIdempotencyController } from './node-idempotency.controller.js';

const settings = JSON.parse(process.env['BENCH_SERVER'] ?? '{}') as ServerSettings;
const isProtected = settings.protection === 'redis';

@Module({
  imports: [
    TypeOrmModule.forRoot({
      type: 'postgres',
      url: settings.databaseUrl,
      entities: [Order],
      poolSize: settings.poolSize,
      // A workload comes to its turn again after a while; its connections are to be there still.
      extra: { pipeline: settings.pipeline, idleTimeoutMillis: 0 },
    }),
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
await app.listen(0, '127.0.0.1');
answerCommands();
process.on('disconnect', () => process.exit());
process.send?.({ url: (await app.getUrl()).replace('[::1]', '127.0.0.1') });
