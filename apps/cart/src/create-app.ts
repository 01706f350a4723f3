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
