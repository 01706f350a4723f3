import {
  type DynamicModule,
  type ForwardReference,
  type INestApplication,
  Module,
  type Type,
} from '@nestjs/common';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { TypeOrmModule } from '@nestjs/typeorm';
import { IdempotencyModule, type IdempotencyModuleOptions } from 'nestjs-pg-idempotency';
import { type DataSource, type EntitySchema } from 'typeorm';
import { getDataSourceToken } from '@nestjs/typeorm';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';

export const PLATFORMS = ['express', 'fastify'] as const;
export type Platform = (typeof PLATFORMS)[number];

/** Both platforms, with statements that travel together and one after another. */
export const SETUPS = PLATFORMS.flatMap((platform) =>
  [true, false].map((pipeline) => ({ platform, pipeline })),
);

type Import = Type | DynamicModule | ForwardReference;

export interface TestAppOptions {
  readonly databaseUrl: string;
  readonly platform?: Platform;
  readonly controllers?: Type[];
  readonly providers?: NonNullable<Parameters<typeof Test.createTestingModule>[0]['providers']>;
  readonly imports?: Import[];
  readonly entities?: (Type | EntitySchema)[];
  readonly idempotency?: IdempotencyModuleOptions;
  readonly poolSize?: number;
  readonly pipeline?: boolean;
  /** Further options of the pool. */
  readonly extra?: Record<string, unknown>;
  /** Called before the application is initialised. */
  readonly prepare?: (app: INestApplication) => void;
  /** Keep Nest's log; off by default, tests provoke errors. */
  readonly logger?: boolean;
}

export interface TestApp {
  readonly url: string;
  readonly app: INestApplication;
  readonly dataSource: DataSource;
  close(): Promise<void>;
}

/** A whole application around the library, listening on a port of its own. */
export async function startApp(options: TestAppOptions): Promise<TestApp> {
  const { databaseUrl, platform = 'express', controllers = [], providers = [], imports = [] } = options;

  @Module({
    imports: [
      TypeOrmModule.forRoot({
        type: 'postgres',
        url: databaseUrl,
        entities: options.entities ?? [],
        poolSize: options.poolSize ?? 10,
        retryAttempts: 0,
        extra: { pipeline: options.pipeline ?? true, ...options.extra },
        logging: false,
        poolErrorHandler: () => undefined,
      }),
      IdempotencyModule.forRoot(options.idempotency ?? {}),
      ...imports,
    ],
    controllers,
    providers,
  })
  class TestModule {}

  const builder = Test.createTestingModule({ imports: [TestModule] });
  const module = await builder.compile();
  const app = module.createNestApplication(
    platform === 'express' ? new ExpressAdapter() : new FastifyAdapter(),
    options.logger ? {} : { logger: false },
  );
  options.prepare?.(app);
  await app.listen(0, '127.0.0.1');
  if (platform === 'fastify') await (app as NestFastifyApplication).getHttpAdapter().getInstance().ready();
  return {
    app,
    url: (await app.getUrl()).replace('[::1]', '127.0.0.1'),
    dataSource: app.get<DataSource>(getDataSourceToken()),
    close: () => app.close(),
  };
}
