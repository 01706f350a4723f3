import {
  Controller,
  type DynamicModule,
  type INestApplication,
  type LoggerService,
  Module,
  Post,
  type Type,
} from '@nestjs/common';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { InjectDataSource, TypeOrmModule, type TypeOrmModuleOptions } from '@nestjs/typeorm';
import { Idempotent, IdempotencyConfigurationError, IdempotencyModule } from 'nestjs-pg-idempotency';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest';
import { type Platform } from './app.js';
import { createDatabase, type TestDatabase } from './database.js';
import { type Answer, send } from './http.js';

/** Nest's log, line by line. */
export class RecordingLogger implements LoggerService {
  readonly lines: { level: string; text: string; context: unknown }[] = [];
  log = this.#at('log');
  warn = this.#at('warn');
  error = this.#at('error');
  fatal = this.#at('fatal');
  debug = this.#at('debug');
  verbose = this.#at('verbose');

  #at(level: string): (text: unknown, ...rest: unknown[]) => void {
    return (text, ...rest) => void this.lines.push({ level, text: String(text), context: rest.at(-1) });
  }

  get warnings(): string[] {
    return this.lines
      .filter(({ level, context }) => level === 'warn' && String(context).startsWith('Idempotency'))
      .map(({ text }) => text);
  }
}

@Controller('plain')
export class PlainController {
  constructor(@InjectDataSource() private readonly dataSource: DataSource) {}

  @Post()
  @Idempotent()
  async add(): Promise<object> {
    await this.dataSource.query('INSERT INTO effects DEFAULT VALUES');
    return { ok: true };
  }
}

/** Made anew for each test, with nothing but a table of effects. */
export let database: TestDatabase;
/** What is closed after the test. */
export const opened: DataSource[] = [];
export const running: INestApplication[] = [];

/** For all tests of the file that calls it; what they start ends with them. */
export function useStartup(): void {
  beforeAll(async () => {
    database = await createDatabase();
  });
  afterAll(() => database?.drop());
  beforeEach(async () => {
    await database.pool.query('DROP SCHEMA public CASCADE; CREATE SCHEMA public');
    await database.pool.query('CREATE TABLE effects (id serial PRIMARY KEY)');
  });
  afterEach(async () => {
    await Promise.all(running.splice(0).map((app) => app.close()));
    await Promise.all(opened.splice(0).map(async (source) => source.isInitialized && source.destroy()));
  });
}

/** TypeORM's module, whose data source is closed also when the application does not start. */
export function typeOrm(
  options: { name?: string; url?: string } & Partial<DataSourceOptions> = {},
): DynamicModule {
  const { name, url = database.url, ...others } = options;
  return TypeOrmModule.forRootAsync({
    ...(name === undefined ? {} : { name }),
    useFactory: () =>
      ({ type: 'postgres', url, retryAttempts: 0, poolSize: 3, ...others }) as TypeOrmModuleOptions,
    dataSourceFactory: async (sourceOptions) => {
      const source = new DataSource(sourceOptions as DataSourceOptions);
      opened.push(source);
      return source.initialize();
    },
  });
}

export interface Boot {
  readonly imports?: (DynamicModule | Type)[];
  readonly controllers?: Type[];
  readonly providers?: Type[];
  readonly platform?: Platform;
}

export async function boot({
  imports = [typeOrm(), IdempotencyModule.forRoot({})],
  controllers = [],
  providers = [],
  platform = 'express',
}: Boot) {
  @Module({ imports, controllers, providers })
  class RootModule {}
  const log = new RecordingLogger();
  const compiled = await Test.createTestingModule({ imports: [RootModule] })
    .setLogger(log)
    .compile();
  const app = compiled.createNestApplication(
    platform === 'express' ? new ExpressAdapter() : new FastifyAdapter(),
  );
  running.push(app);
  await app.listen(0, '127.0.0.1');
  const url = await app.getUrl();
  const post = (path: string, key = 'k'): Promise<Answer> =>
    send(`${url}${path}`, { body: {}, headers: { 'Idempotency-Key': key } });
  return { app, log, post };
}

export async function faultOf(options: Boot | (() => Boot)): Promise<IdempotencyConfigurationError> {
  let failure: unknown;
  try {
    await boot(typeof options === 'function' ? options() : options);
  } catch (error) {
    failure = error;
  }
  expect(failure).toBeInstanceOf(IdempotencyConfigurationError);
  return failure as IdempotencyConfigurationError;
}

export const withOptions = (options: object): (() => Boot) => {
  return () => ({ imports: [typeOrm(), IdempotencyModule.forRoot(options)] });
};
export const effects = async (): Promise<number> =>
  (await database.rows<{ count: number }>('SELECT count(*)::int AS count FROM effects'))[0]?.count ?? -1;
export const tables = async (of = database): Promise<string[]> =>
  (
    await of.rows<{ name: string }>(
      `SELECT schemaname || '.' || tablename AS name FROM pg_tables
      WHERE schemaname NOT IN ('pg_catalog', 'information_schema') AND tablename <> 'effects' ORDER BY 1`,
    )
  ).map(({ name }) => name);
