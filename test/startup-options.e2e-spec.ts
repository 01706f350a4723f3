import { Controller, type DynamicModule, Injectable, Module, Post } from '@nestjs/common';
import {
  Idempotent,
  IdempotencyConfigurationError,
  IdempotencyModule,
  type IdempotencyModuleOptions,
} from 'nestjs-pg-idempotency';
import { DataSource } from 'typeorm';
import { describe, expect, it } from 'vitest';
import { send } from './support/http.js';
import {
  PlainController,
  boot,
  database,
  effects,
  faultOf,
  tables,
  typeOrm,
  useStartup,
  withOptions,
} from './support/startup.js';

useStartup();

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
