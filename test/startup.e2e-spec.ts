import {
  Controller,
  type DynamicModule,
  Get,
  Global,
  Injectable,
  type INestApplication,
  type LoggerService,
  Module,
  Next,
  Post,
  Put,
  Render,
  Res,
  Sse,
  type Type,
} from '@nestjs/common';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import {
  getDataSourceToken,
  InjectDataSource,
  TypeOrmModule,
  type TypeOrmModuleOptions,
} from '@nestjs/typeorm';
import {
  type Attempt,
  CurrentAttempt,
  Idempotent,
  IdempotencyAdmin,
  IdempotencyConfigurationError,
  IdempotencyModule,
  type IdempotencyModuleOptions,
  type IdempotentRequest,
} from 'nestjs-pg-idempotency';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { NEVER, type Observable } from 'rxjs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Platform, PLATFORMS } from './support/app.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { type Answer, send } from './support/http.js';

/** Nest's log, line by line. */
class RecordingLogger implements LoggerService {
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
class PlainController {
  constructor(@InjectDataSource() private readonly dataSource: DataSource) {}

  @Post()
  @Idempotent()
  async add(): Promise<object> {
    await this.dataSource.query('INSERT INTO effects DEFAULT VALUES');
    return { ok: true };
  }
}

let database: TestDatabase;
const opened: DataSource[] = [];
const running: INestApplication[] = [];

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

/** TypeORM's module, whose data source is closed also when the application does not start. */
function typeOrm(options: { name?: string; url?: string } & Partial<DataSourceOptions> = {}): DynamicModule {
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

interface Boot {
  readonly imports?: (DynamicModule | Type)[];
  readonly controllers?: Type[];
  readonly providers?: Type[];
  readonly platform?: Platform;
}

async function boot({
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

async function faultOf(options: Boot | (() => Boot)): Promise<IdempotencyConfigurationError> {
  let failure: unknown;
  try {
    await boot(typeof options === 'function' ? options() : options);
  } catch (error) {
    failure = error;
  }
  expect(failure).toBeInstanceOf(IdempotencyConfigurationError);
  return failure as IdempotencyConfigurationError;
}

const withOptions = (options: object): (() => Boot) => {
  return () => ({ imports: [typeOrm(), IdempotencyModule.forRoot(options)] });
};
const effects = async (): Promise<number> =>
  (await database.rows<{ count: number }>('SELECT count(*)::int AS count FROM effects'))[0]?.count ?? -1;
const tables = async (of = database): Promise<string[]> =>
  (
    await of.rows<{ name: string }>(
      `SELECT schemaname || '.' || tablename AS name FROM pg_tables
      WHERE schemaname NOT IN ('pg_catalog', 'information_schema') AND tablename <> 'effects' ORDER BY 1`,
    )
  ).map(({ name }) => name);

const wrong: [option: string, value: unknown, received: string][] = [
  ['ttl', '1 fortnight', "'1 fortnight'"],
  ['ttl', Number.NaN, 'NaN'],
  ['ttl', -1, '-1'],
  ['maxAttempts', 0, '0'],
  ['keyFormat', 5, '5'],
  ['replayHeaders', ['Set-Cookie'], "'set-cookie'"],
  ['scope', 'user', "'user'"],
  ['header', 'a b', "'a b'"],
  ['onInFlight', 'queue', "'queue'"],
  ['waitTimeOut', '5s', "'5s'"],
  ['cache', true, 'true'],
];
const wrongForModule: [option: string, value: unknown, received: string][] = [
  ['table', 'keys"; DROP TABLE effects; --', `'keys"; DROP TABLE effects; --'`],
  ['table', "o'keys", `"o'keys"`],
  ['namespace', '', "''"],
  ['migrations', 'auto', "'auto'"],
  ['reapInterval', '1ms', "'1ms'"],
  ['reapBatch', 0, '0'],
  ['acquireTimeout', 'soon', "'soon'"],
  ['maxWaiters', -1, '-1'],
  ['docsUrl', 'docs', "'docs'"],
  ['isGlobal', true, 'true'],
];

describe('options of the module', () => {
  it.each([...wrong, ...wrongForModule])(
    'fail the start with %s: %o, before the database is touched',
    async (option, value, received) => {
      const fault = await faultOf(withOptions({ [option]: value }));
      expect(await tables()).toEqual([]);
      expect(fault.option).toBe(option);
      expect(fault.message).toMatch(/^[\w@()]+: received .+\. [A-Z].+\.$/s);
      expect(fault.message).toContain(`${option}: received ${received}. `);
    },
  );

  it('fail the start with a ttl shorter than maxRuntime', async () => {
    const fault = await faultOf(withOptions({ ttl: '30s', maxRuntime: '1m' }));
    expect(fault.message).toMatch(/^ttl: received '30s'\. Use at least maxRuntime \(60000 ms\)/);
  });

  it('fail the start when a factory gives them, just the same', async () => {
    const fault = await faultOf({
      imports: [typeOrm(), IdempotencyModule.forRootAsync({ useFactory: () => ({ maxAttempts: 0 }) })],
    });
    expect(fault.message).toMatch(/^maxAttempts: received 0\. /);
  });

  it('fail the start when a factory names the data source, which it is too late for', async () => {
    const useFactory = (): IdempotencyModuleOptions => ({ dataSource: 'orders' });
    const fault = await faultOf({ imports: [typeOrm(), IdempotencyModule.forRootAsync({ useFactory })] });
    expect(fault.message).toMatch(/^dataSource: received 'orders'\. .*beside useFactory/);
  });

  it.each([5, '', null, { password: 'hunter2' }])(
    'name a data source by text, or by a function, not by %o',
    (dataSource) => {
      const declare = (): unknown =>
        IdempotencyModule.forRoot({ dataSource } as unknown as IdempotencyModuleOptions);
      expect(declare).toThrow(
        /^dataSource: received .+ TypeOrmModule\.forRoot\(\{ name \}\) has, a function of the request/,
      );
      expect(declare).not.toThrow('hunter2');
    },
  );

  it.each([5, '', null, { password: 'hunter2' }])(
    'fail the start when a factory returns %o as the data source',
    async (dataSource) => {
      const useFactory = () => ({ dataSource }) as unknown as IdempotencyModuleOptions;
      const fault = await faultOf({ imports: [typeOrm(), IdempotencyModule.forRootAsync({ useFactory })] });
      expect(fault.message).toMatch(
        /^dataSource: received .+ beside useFactory.+ only a function of the request may stand/,
      );
      expect(fault.message).not.toContain('hunter2');
    },
  );

  it.each(['orders', () => new DataSource({ type: 'postgres' })])(
    'fail the start when a factory returns a function for the data source and %o stands beside it',
    async (dataSource) => {
      const useFactory = (): IdempotencyModuleOptions => ({
        dataSource: () => new DataSource({ type: 'postgres' }),
      });
      const fault = await faultOf({
        imports: [typeOrm(), IdempotencyModule.forRootAsync({ dataSource, useFactory })],
      });
      expect(fault.message).toMatch(/^dataSource: received .+ take one of them away/);
    },
  );
});

describe('options of a route', () => {
  it.each([...wrong, ...wrongForModule])(
    'throw where they are declared with %s: %o',
    (option, value, received) => {
      const declare = (): unknown => Idempotent({ [option]: value });
      expect(declare).toThrow(IdempotencyConfigurationError);
      expect(declare).toThrow(`${option}: received ${received}. `);
    },
  );

  it('throw where they are declared with a ttl shorter than their own maxRuntime', () => {
    expect(() => Idempotent({ ttl: '30s', maxRuntime: '1m' })).toThrow(/^ttl: received '30s'/);
    expect(() => Idempotent({ ttl: '30s' })).not.toThrow();
  });

  it("fail the start when they contradict the module's, naming the route", async () => {
    @Controller()
    class CartController {
      @Post()
      @Idempotent({ ttl: '30s' })
      add(): void {}
    }
    const fault = await faultOf({ controllers: [CartController] });
    expect(fault.message).toMatch(/^CartController\.add: ttl: received '30s'\. Use at least maxRuntime/);
  });

  it("win over the class's, and those over the module's", async () => {
    @Controller('nested')
    @Idempotent({ header: 'X-Class', maxRuntime: '30s' })
    class NestedController {
      @Post('class')
      ofClass(): string {
        return 'class';
      }
      @Post('method')
      @Idempotent({ header: 'X-Method' })
      ofMethod(): string {
        return 'method';
      }
    }
    @Controller('module')
    class ModuleController {
      @Post()
      @Idempotent({ header: undefined })
      ofModule(): string {
        return 'module';
      }
    }
    const { app } = await boot({
      imports: [typeOrm(), IdempotencyModule.forRoot({ header: 'X-Module' })],
      controllers: [NestedController, ModuleController],
    });
    const url = await app.getUrl();
    const answer = async (path: string, header: string): Promise<number> =>
      (await send(`${url}${path}`, { body: {}, headers: { [header]: path } })).status;
    expect(await answer('/nested/class', 'X-Class')).toBe(201);
    expect(await answer('/nested/class', 'X-Module')).toBe(400);
    expect(await answer('/nested/method', 'X-Method')).toBe(201);
    expect(await answer('/nested/method', 'X-Class')).toBe(400);
    expect(await answer('/module', 'X-Module')).toBe(201);
    expect(await answer('/module', 'Idempotency-Key')).toBe(400);
  });
});

describe('the data source', () => {
  it('fails the start when there is none', async () => {
    const fault = await faultOf({ imports: [IdempotencyModule.forRoot({})] });
    expect(fault.message).toMatch(/^dataSource: received undefined\. Import TypeOrmModule\.forRoot\(\)/);
  });

  it('fails the start when none has its name', async () => {
    const fault = await faultOf({
      imports: [typeOrm(), IdempotencyModule.forRoot({ dataSource: 'orders' })],
    });
    expect(fault.message).toMatch(
      /^dataSource: received 'orders'\. Import TypeOrmModule\.forRoot\(\{ name: 'orders'/,
    );
  });

  it('fails the start when the default one is another one', async () => {
    const fault = await faultOf({ imports: [typeOrm({ name: 'orders' }), IdempotencyModule.forRoot({})] });
    expect(fault.message).toMatch(/^dataSource: received undefined\. .*name the data source/);
  });

  it('fails the start when it is not of PostgreSQL', async () => {
    const cockroach = new DataSource({ type: 'cockroachdb', timeTravelQueries: false });
    @Global()
    @Module({
      providers: [{ provide: getDataSourceToken(), useValue: cockroach }],
      exports: [getDataSourceToken()],
    })
    class CockroachModule {}
    const fault = await faultOf({ imports: [CockroachModule, IdempotencyModule.forRoot({})] });
    expect(fault.message).toMatch(/^dataSource: received 'cockroachdb'\. .*'postgres'/);
  });

  it('holds the records beside the rows, found by name', async () => {
    const orders = await createDatabase();
    try {
      @Controller('orders')
      class OrdersController {
        constructor(@InjectDataSource('orders') private readonly source: DataSource) {}
        @Post()
        @Idempotent()
        async add(): Promise<object> {
          await this.source.query('INSERT INTO effects DEFAULT VALUES');
          return { ok: true };
        }
      }
      await orders.pool.query('CREATE TABLE effects (id serial PRIMARY KEY)');
      const { post } = await boot({
        imports: [
          typeOrm(),
          typeOrm({ name: 'orders', url: orders.url }),
          IdempotencyModule.forRootAsync({
            dataSource: 'orders',
            useFactory: () => Promise.resolve({ namespace: 'async' }),
          }),
        ],
        controllers: [OrdersController],
      });
      const answers = [await post('/orders'), await post('/orders')];
      expect(await orders.rows('SELECT count(*)::int FROM effects')).toEqual([{ count: 1 }]);
      expect(await orders.rows('SELECT namespace, key FROM idempotency_keys')).toEqual([
        { namespace: 'async', key: 'k' },
      ]);
      expect(await tables()).toEqual([]);
      expect(answers.map(({ status }) => status)).toEqual([201, 200]);
    } finally {
      await Promise.all(running.splice(0).map((app) => app.close()));
      await orders.drop();
    }
  });
});

describe('a data source per request', () => {
  @Injectable()
  class TenantRegistry {
    readonly asked: unknown[] = [];
    readonly source = new DataSource({ type: 'postgres', url: database.url, poolSize: 3 });
    async find(name: unknown): Promise<DataSource> {
      this.asked.push(name);
      if (!this.source.isInitialized) opened.push(await this.source.initialize());
      return this.source;
    }
  }
  @Module({ providers: [TenantRegistry], exports: [TenantRegistry] })
  class TenantsModule {}

  const byHost = (registry: TenantRegistry) => (request: IdempotentRequest) =>
    registry.find(request.headers.host);

  it('is found by what a factory injects, with no data source of the application', async () => {
    let registry!: TenantRegistry;
    @Controller('orders')
    class OrdersController {
      @Post()
      @Idempotent()
      async add(@CurrentAttempt() attempt: Attempt): Promise<object> {
        await attempt.manager.query('INSERT INTO effects DEFAULT VALUES');
        return { ok: true };
      }
    }
    const { post } = await boot({
      imports: [
        IdempotencyModule.forRootAsync({
          imports: [TenantsModule],
          inject: [TenantRegistry],
          useFactory: (injected: TenantRegistry) => {
            registry = injected;
            return { dataSource: byHost(injected), namespace: 'tenants' };
          },
        }),
      ],
      controllers: [OrdersController],
    });
    expect(await tables()).toEqual([]);
    const answers = [await post('/orders'), await post('/orders')];
    expect(await database.rows('SELECT count(*)::int FROM effects')).toEqual([{ count: 1 }]);
    expect(await database.rows('SELECT namespace FROM idempotency_keys')).toEqual([{ namespace: 'tenants' }]);
    expect(registry.asked).toHaveLength(2);
    expect(answers.map(({ status }) => status)).toEqual([201, 200]);
  });

  it('is chosen by a function beside the factory as well', async () => {
    const registry = new TenantRegistry();
    const { post } = await boot({
      imports: [
        typeOrm(),
        IdempotencyModule.forRootAsync({
          dataSource: byHost(registry),
          useFactory: () => ({ namespace: 'beside' }),
        }),
      ],
      controllers: [PlainController],
    });
    expect((await post('/plain')).status).toBe(201);
    expect(await database.rows('SELECT namespace FROM idempotency_keys')).toEqual([{ namespace: 'beside' }]);
  });

  it('is bound to people by of(); the one data source of all requests is taken there too, and no other', async () => {
    const { app } = await boot({});
    const admin = app.get(IdempotencyAdmin);
    const source = app.get<DataSource>(getDataSourceToken());
    expect(await admin.of(source).list()).toEqual({ records: [] });
    expect(await admin.of(source).of(source).list()).toEqual(await admin.list());
    const other = new DataSource({ type: 'postgres', url: database.url });
    await expect(admin.of(other).list()).rejects.toThrow(/^admin\.of\(dataSource\): .+ another one/);
  });
});

describe('forRootAsync', () => {
  @Injectable()
  class OptionsFactory {
    createIdempotencyOptions(): IdempotencyModuleOptions {
      return { namespace: 'from a class', table: 'keys_of_class' };
    }
  }
  @Injectable()
  class Settings {
    readonly namespace = 'injected';
  }
  @Module({ providers: [Settings, OptionsFactory], exports: [Settings, OptionsFactory] })
  class SettingsModule {}

  it.each<[string, () => DynamicModule, string, string]>([
    [
      'useClass',
      () => IdempotencyModule.forRootAsync({ useClass: OptionsFactory }),
      'keys_of_class',
      'from a class',
    ],
    [
      'useExisting',
      () => IdempotencyModule.forRootAsync({ imports: [SettingsModule], useExisting: OptionsFactory }),
      'keys_of_class',
      'from a class',
    ],
    [
      'useFactory with imports and inject',
      () =>
        IdempotencyModule.forRootAsync({
          imports: [SettingsModule],
          inject: [Settings],
          useFactory: ({ namespace }: Settings) => ({ namespace }),
        }),
      'idempotency_keys',
      'injected',
    ],
  ])('takes its options from %s', async (_name, make, table, namespace) => {
    const { post } = await boot({ imports: [typeOrm(), make()], controllers: [PlainController] });
    const answers = [await post('/plain'), await post('/plain')];
    expect(await effects()).toBe(1);
    expect(await database.rows(`SELECT namespace FROM ${table}`)).toEqual([{ namespace }]);
    expect(answers.map(({ status }) => status)).toEqual([201, 200]);
  });
});

describe('the module', () => {
  it('is refused when it is imported twice, since two interceptors would claim one key', async () => {
    const fault = await faultOf({
      imports: [typeOrm(), IdempotencyModule.forRoot({}), IdempotencyModule.forRoot({ namespace: 'again' })],
    });
    expect(fault.message).toMatch(/received '2 imports'\. Import the module once/);
  });

  it('may be imported by the same reference from two modules', async () => {
    const once = IdempotencyModule.forRoot({});
    @Module({ imports: [once] })
    class FeatureModule {}
    const { post } = await boot({
      imports: [typeOrm(), once, FeatureModule],
      controllers: [PlainController],
    });
    const answers = [await post('/plain'), await post('/plain')];
    expect(await effects()).toBe(1);
    expect(answers.map(({ status }) => status)).toEqual([201, 200]);
  });

  it('may stand before the data source among the imports', async () => {
    const { post } = await boot({
      imports: [IdempotencyModule.forRoot({}), typeOrm()],
      controllers: [PlainController],
    });
    const answers = [await post('/plain'), await post('/plain')];
    expect(await effects()).toBe(1);
    expect(answers.map(({ status }) => status)).toEqual([201, 200]);
  });
});

describe('migrations', () => {
  it("'check' fails the start on an empty database, naming what is missing, and changes nothing", async () => {
    const fault = await faultOf(withOptions({ migrations: 'check' }));
    expect(await tables()).toEqual([]);
    expect(fault.message).toMatch(
      /^migrations: received 'check'\. The database lacks 0001-records, 0002-leases: apply the SQL of/,
    );
  });

  it("'check' starts on a migrated one, and fails when a step is missing from its history", async () => {
    await boot({});
    await boot(withOptions({ migrations: 'check' })());
    await database.pool.query('DELETE FROM idempotency_keys_migrations');
    expect((await faultOf(withOptions({ migrations: 'check' }))).message).toContain('0001-records');
  });

  it("'off' fails the start without the journal, which an earlier version did not have", async () => {
    await boot({});
    await database.pool.query('DROP TABLE idempotency_steps');
    expect((await faultOf(withOptions({ migrations: 'off' }))).message).toContain(
      'There is no table "idempotency_steps" in the database: ',
    );
  });

  it("'off' does not look at the history, but fails the start without a table", async () => {
    const fault = await faultOf(withOptions({ migrations: 'off' }));
    expect(await tables()).toEqual([]);
    expect(fault.message).toMatch(
      /^migrations: received 'off'\. There is no table "idempotency_keys" in the database: /,
    );
    await boot({});
    await database.pool.query('DROP TABLE idempotency_keys_migrations');
    await boot(withOptions({ migrations: 'off' })());
  });

  it('fail the start over a table that a crash empties', async () => {
    await boot({});
    // The journal first: PostgreSQL lets no table that stays refer to one that does not.
    for (const table of ['idempotency_steps', 'idempotency_keys']) {
      await database.pool.query(`ALTER TABLE ${table} SET UNLOGGED`);
      for (const migrations of ['run', 'check', 'off']) {
        const fault = await faultOf(withOptions({ migrations }));
        expect(fault.message).toBe(
          "dataSource: received 'an UNLOGGED table'. A crash of the server empties it: " +
            `ALTER TABLE ${table} SET LOGGED.`,
        );
      }
    }
  });

  it('fail the start over a partition that a crash empties, and take a table with none', async () => {
    await boot({});
    // As an operator would partition it: with everything that refers to it.
    await database.pool.query(`
      ALTER TABLE idempotency_steps DROP CONSTRAINT idempotency_steps_key_hash_fkey;
      ALTER TABLE idempotency_keys RENAME TO whole;
      CREATE TABLE idempotency_keys (LIKE whole INCLUDING DEFAULTS INCLUDING CONSTRAINTS, PRIMARY KEY (key_hash)) PARTITION BY HASH (key_hash);
      CREATE TABLE keys_0 PARTITION OF idempotency_keys FOR VALUES WITH (MODULUS 2, REMAINDER 0);
      CREATE TABLE keys_1 PARTITION OF idempotency_keys FOR VALUES WITH (MODULUS 2, REMAINDER 1);
      ALTER TABLE idempotency_steps ADD FOREIGN KEY (key_hash) REFERENCES idempotency_keys ON DELETE CASCADE;`);
    await boot(withOptions({ migrations: 'check' })());
    await database.pool.query(`
      ALTER TABLE idempotency_steps DROP CONSTRAINT idempotency_steps_key_hash_fkey;
      DROP TABLE keys_1;
      CREATE UNLOGGED TABLE keys_1 PARTITION OF idempotency_keys FOR VALUES WITH (MODULUS 2, REMAINDER 1);`);
    expect((await faultOf(withOptions({ migrations: 'check' }))).message).toBe(
      "dataSource: received 'an UNLOGGED table'. A crash of the server empties it: ALTER TABLE keys_1 SET LOGGED.",
    );
  });
});

describe('warnings', () => {
  afterEach(() => database.alter('RESET ALL'));

  it('tell at start that the server may lose what was acknowledged', async () => {
    await database.alter('SET synchronous_commit = off');
    const { log } = await boot({});
    expect(log.warnings).toContainEqual(
      expect.stringMatching(/^synchronous_commit is off: a crash of the server may lose/),
    );
    // The tests' own server runs without fsync.
    expect(log.warnings).toContainEqual(expect.stringMatching(/^fsync or full_page_writes is off/));
  });

  it('tell that commits which were not replicated would not be told from others', async () => {
    await database.alter('SET client_min_messages = error');
    const { log } = await boot({});
    expect(log.warnings).toContainEqual(expect.stringMatching(/^client_min_messages is error/));
  });

  it('are silent about a server that is set right', async () => {
    const { log } = await boot({});
    expect(log.warnings.filter((text) => !text.startsWith('fsync'))).toEqual([]);
  });

  it('tell that a read-only database serves nothing, which it then does not', async () => {
    await boot({});
    await database.alter('SET default_transaction_read_only = on');
    const { log, post } = await boot({ controllers: [PlainController] });
    const answer = await post('/plain');
    expect(await effects()).toBe(0);
    expect(log.warnings).toContainEqual(expect.stringMatching(/^default_transaction_read_only is on/));
    expect(answer.status).toBe(503);
    expect(answer.json()).toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE' });
  });

  it("tell that handlers run at READ COMMITTED whatever the data source's isolation level", async () => {
    const isolated = typeOrm({ isolationLevel: 'SERIALIZABLE' });
    const { log } = await boot({ imports: [isolated, IdempotencyModule.forRoot({})] });
    expect(log.warnings).toContainEqual(
      expect.stringMatching(/isolationLevel is SERIALIZABLE.*READ COMMITTED/),
    );
  });

  it('tell of a decorator that does nothing', async () => {
    @Controller('warned')
    class WarnedController {
      @Get()
      @Idempotent()
      list(): string[] {
        return [];
      }
      @Put()
      @Idempotent()
      replace(): void {}
    }
    @Controller('covered')
    @Idempotent()
    class CoveredController {
      @Get()
      list(): string[] {
        return [];
      }
      @Post()
      add(): void {}
    }
    const { log } = await boot({ controllers: [WarnedController, CoveredController] });
    expect(log.warnings.filter((text) => text.includes('Controller'))).toEqual([
      '@Idempotent() on WarnedController.list does nothing: GET is not POST or PATCH. Remove it.',
      '@Idempotent() on WarnedController.replace does nothing: PUT is not POST or PATCH. Remove it.',
    ]);
  });
});

describe.each(PLATFORMS)('a route whose answer cannot be recorded, on %s', (platform) => {
  @Controller('taken')
  class TakesResponse {
    @Post()
    @Idempotent()
    add(@Res() response: { send(body: string): void }): void {
      response.send('bypassed');
    }
  }
  @Controller('next')
  class TakesNext {
    @Post()
    @Idempotent()
    add(@Next() next: () => void): void {
      next();
    }
  }
  @Controller('sse')
  class Streams {
    @Sse()
    @Idempotent()
    events(): Observable<never> {
      return NEVER;
    }
  }
  @Controller('posted')
  class PostedStream {
    @Post()
    @Sse()
    @Idempotent()
    events(): Observable<never> {
      return NEVER;
    }
  }
  @Controller('streams')
  @Idempotent()
  class ClassStreams {
    @Sse()
    events(): Observable<never> {
      return NEVER;
    }
  }
  @Controller('page')
  class Renders {
    @Post()
    @Render('page')
    @Idempotent()
    page(): object {
      return {};
    }
  }
  @Controller('class')
  @Idempotent()
  class ClassTakesResponse {
    @Post()
    add(@Res() response: { send(body: string): void }): void {
      response.send('bypassed');
    }
  }

  @Controller('forgetful')
  class Forgetful {
    @Idempotent()
    add(): object {
      return {};
    }
  }
  class Service {
    @Idempotent()
    charge(): void {}
  }
  class Heir extends Service {}
  @Idempotent()
  class DecoratedService {
    charge(): void {}
  }
  @Controller('helpful')
  @Idempotent()
  class Helpful {
    @Post()
    add(): object {
      return this.help();
    }
    help(): object {
      return {};
    }
  }

  it.each<[string, Type, RegExp]>([
    [
      '@Res()',
      TakesResponse,
      /^@Idempotent\(\) on TakesResponse\.add: received '@Res\(\).* passthrough: true/,
    ],
    ['@Next()', TakesNext, /^@Idempotent\(\) on TakesNext\.add: received .*@Next\(\)/],
    ['@Sse()', Streams, /^@Idempotent\(\) on Streams\.events: received '@Sse\(\)'/],
    ['@Sse() made a POST', PostedStream, /^@Idempotent\(\) on PostedStream\.events: received '@Sse\(\)'/],
    ['@Render()', Renders, /^@Idempotent\(\) on Renders\.page: received '@Render\(\)'/],
    ['@Res() in a decorated class', ClassTakesResponse, /^@Idempotent\(\) on ClassTakesResponse\.add: /],
  ])('fails the start: %s', async (_what, controller, message) => {
    expect((await faultOf({ controllers: [controller], platform })).message).toMatch(message);
  });

  it.each<[string, { controllers?: Type[]; providers?: Type[] }, RegExp]>([
    [
      'a method of a controller without @Post()',
      { controllers: [Forgetful] },
      /^@Idempotent\(\) on Forgetful\.add: received 'a method that is no HTTP route'\. Only POST and PATCH routes/,
    ],
    ['a method of a service', { providers: [Service] }, /^@Idempotent\(\) on Service\.charge: received /],
    [
      'a method that a service inherits',
      { providers: [Heir] },
      /^@Idempotent\(\) on Heir\.charge: received /,
    ],
    ['a service', { providers: [DecoratedService] }, /^@Idempotent\(\) on DecoratedService: received /],
  ])('fails the start where it is no route: %s', async (_what, parts, message) => {
    expect((await faultOf({ ...parts, platform })).message).toMatch(message);
  });

  it('is left alone in a decorated class when it is no route, and in a controller that is a provider too', async () => {
    const { post } = await boot({ controllers: [Helpful], providers: [Helpful], platform });
    expect((await post('/helpful')).status).toBe(201);
  });

  it('is left alone in a decorated class when it is a stream of events, which is a GET', async () => {
    const { log } = await boot({ controllers: [ClassStreams], platform });
    expect(log.warnings.filter((text) => text.includes('ClassStreams'))).toEqual([]);
  });

  it('is a fine route with @Res({ passthrough: true })', async () => {
    @Controller('passthrough')
    class PassesThrough {
      @Post()
      @Idempotent()
      add(@Res({ passthrough: true }) response: { header(name: string, value: string): void }): object {
        response.header('Location', '/things/1');
        return { ok: true };
      }
    }
    const { post } = await boot({ controllers: [PassesThrough], platform });
    const answers = [await post('/passthrough'), await post('/passthrough')];
    expect(answers.map(({ status }) => status)).toEqual([201, 200]);
    expect(answers.map(({ headers }) => headers.location)).toEqual(['/things/1', '/things/1']);
    expect(answers[1]?.text).toBe(answers[0]?.text);
  });

  it('is a fine route without @Idempotent()', async () => {
    @Controller('free')
    class Free {
      @Post()
      add(@Res() response: { send(body: string): void }): void {
        response.send('mine');
      }
    }
    const { post } = await boot({ controllers: [Free], platform });
    expect((await post('/free')).text).toBe('mine');
  });
});
