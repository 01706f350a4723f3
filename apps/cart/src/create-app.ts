import { ValidationPipe, type INestApplication, type LoggerService, type LogLevel } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { DocumentBuilder, SwaggerModule } from '@nestjs/swagger';
import type { IdempotencyModuleOptions } from 'nestjs-pg-idempotency';
import { AppModule } from './app.module.js';

/** What {@link createCartApp} takes. */
export interface CartAppOptions {
  readonly databaseUrl: string;
  /** @default 'express' */
  readonly platform?: 'express' | 'fastify';
  /** @default 10 */
  readonly poolSize?: number;
  /** @default true */
  readonly pipeline?: boolean;
  /** Whether the `X-Demo-…` headers work. Default: everywhere but in production. */
  readonly demo?: boolean;
  readonly idempotency?: IdempotencyModuleOptions;
  /** @default 'http://127.0.0.1:3001' */
  readonly paymentProviderUrl?: string;
  /** How long one call of the payment provider may take. @default 10 000 */
  readonly paymentTimeoutMs?: number;
  /** Whether this instance sends the confirmations of orders. @default true */
  readonly confirmations?: boolean;
  readonly logger?: LoggerService | LogLevel[] | false;
}

/** Makes the cart API, connected to its database and not yet listening. */
export async function createCartApp(options: CartAppOptions): Promise<INestApplication> {
  const app = await NestFactory.create(
    AppModule.forRoot({
      database: {
        url: options.databaseUrl,
        poolSize: options.poolSize ?? 10,
        pipeline: options.pipeline ?? true,
      },
      idempotency: options.idempotency ?? {},
      paymentProvider: {
        url: options.paymentProviderUrl ?? 'http://127.0.0.1:3001',
        timeoutMs: options.paymentTimeoutMs ?? 10_000,
      },
      confirmations: options.confirmations ?? true,
      demo: options.demo ?? process.env['NODE_ENV'] !== 'production',
    }),
    options.platform === 'fastify' ? new FastifyAdapter() : new ExpressAdapter(),
    // Callers get the error and say it in their own way, instead of a process that ends.
    { abortOnError: false, logger: options.logger ?? ['warn', 'error', 'fatal'] },
  );
  app.useGlobalPipes(new ValidationPipe({ whitelist: true, forbidNonWhitelisted: true, transform: true }));
  const description = new DocumentBuilder()
    .setTitle('Cart API')
    .setDescription('Requests that change a cart by an amount take effect exactly once per Idempotency-Key.')
    .setVersion('1')
    .build();
  SwaggerModule.setup('docs', app, () => SwaggerModule.createDocument(app, description));
  return app;
}
