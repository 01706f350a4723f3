import { Controller, Global, Injectable, Module, Post } from '@nestjs/common';
import { getDataSourceToken, InjectDataSource } from '@nestjs/typeorm';
import {
  type Attempt,
  CurrentAttempt,
  Idempotent,
  IdempotencyAdmin,
  IdempotencyModule,
  type IdempotentRequest,
} from 'nestjs-pg-idempotency';
import { DataSource } from 'typeorm';
import { describe, expect, it } from 'vitest';
import { createDatabase } from './support/database.js';
import {
  PlainController,
  boot,
  database,
  faultOf,
  opened,
  running,
  tables,
  typeOrm,
  useStartup,
} from './support/startup.js';

useStartup();

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
