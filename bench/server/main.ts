// One server of the benchmark, in a process of its own. Tells its parent its address, and ends with it.
import { Module, type INestApplication, type ModuleMetadata } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { TypeOrmModule } from '@nestjs/typeorm';
import { answerCommands } from './commands.js';
import { Order } from './orders.js';
import { OrdersService } from './orders.service.js';
import { PlainOrdersController } from './plain-orders.controller.js';
import type { ServerSettings } from './settings.js';

const settings = JSON.parse(process.env['BENCH_SERVER'] ?? '{}') as ServerSettings;
/** What is compared with has not even loaded the library, which changes what promises cost in the whole process. */
const {
  imports = [],
  controllers = [],
  providers = [],
}: ModuleMetadata = settings.protection === 'absent'
  ? {}
  : (await import('./protection.js')).protection(settings);

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
    ...imports,
  ],
  controllers: [PlainOrdersController, ...controllers],
  providers: [OrdersService, ...providers],
})
class BenchModule {}

const app: INestApplication = await NestFactory.create(
  BenchModule,
  settings.platform === 'express' ? new ExpressAdapter() : new FastifyAdapter(),
  { logger: ['error', 'warn'] },
);
await app.listen(0, '127.0.0.1');
answerCommands();
process.on('disconnect', () => process.exit());
process.send?.({ url: (await app.getUrl()).replace('[::1]', '127.0.0.1') });
