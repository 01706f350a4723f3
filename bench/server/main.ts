// One server of the benchmark, in a process of its own. Tells its parent its address, and ends with it.
import { Module, type INestApplication, type ModuleMetadata } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { TypeOrmModule } from '@nestjs/typeorm';
import { databaseOptions, Order } from './orders.js';
import { OrdersService } from './orders.service.js';
import { PlainOrdersController } from './plain-orders.controller.js';
import { RecordAloneController } from './record-alone.controller.js';
import { serve } from './serve.js';
import { readSettings } from './settings.js';

const settings = readSettings();
/** What is compared with has not even loaded the library, which changes what promises cost in the whole process. */
const {
  imports = [],
  controllers = [],
  providers = [],
}: ModuleMetadata = settings.protection === 'absent'
  ? {}
  : (await import('./protection.js')).protection(settings);

@Module({
  imports: [TypeOrmModule.forRoot(databaseOptions(settings)), TypeOrmModule.forFeature([Order]), ...imports],
  controllers: [PlainOrdersController, RecordAloneController, ...controllers],
  providers: [OrdersService, ...providers],
})
class BenchModule {}

const app: INestApplication = await NestFactory.create(
  BenchModule,
  settings.platform === 'express' ? new ExpressAdapter() : new FastifyAdapter(),
  { logger: ['error', 'warn'] },
);
await serve(app);
