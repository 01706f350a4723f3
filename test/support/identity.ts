import {
  All,
  Body,
  Controller,
  Delete,
  Get,
  Headers,
  Inject,
  Injectable,
  Param,
  Patch,
  Post,
  Put,
  Query,
  Scope,
} from '@nestjs/common';
import { REQUEST } from '@nestjs/core';
import { getDataSourceToken } from '@nestjs/typeorm';
import { Idempotent } from 'nestjs-pg-idempotency';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, beforeEach, expect } from 'vitest';
import { type Platform, startApp, type TestApp, type TestAppOptions } from './app.js';
import { createDatabase, type TestDatabase } from './database.js';
import { type Answer, type RequestOptions, send } from './http.js';
import type { Deferred } from './until.js';

/** Writes one row per execution; a handler that runs twice leaves two. */
@Injectable()
export class Effects {
  readonly gates = new Map<string, Deferred>();
  readonly entered = new Set<string>();

  constructor(@Inject(getDataSourceToken()) private readonly dataSource: DataSource) {}

  async add(note: unknown, gate?: string): Promise<{ effect: number; note: unknown }> {
    const [row] = await this.dataSource.query<[{ id: number }]>(
      'INSERT INTO effects (note) VALUES ($1::text) RETURNING id',
      [JSON.stringify(note) ?? null],
    );
    if (gate !== undefined) {
      this.entered.add(gate);
      await this.gates.get(gate)?.promise;
    }
    return { effect: row.id, note };
  }
}

@Controller('orders')
class OrdersController {
  constructor(@Inject(Effects) private readonly effects: Effects) {}

  @Post(':id/items')
  @Idempotent()
  add(
    @Param('id') id: string,
    @Query() query: object,
    @Body() body: unknown,
    @Headers('x-gate') gate?: string,
  ): Promise<object> {
    return this.effects.add({ id, query, body }, gate);
  }

  @Post('mutating')
  @Idempotent()
  async mutating(@Body() body: { items: string[]; nested: { total?: number } }): Promise<object> {
    const result = await this.effects.add(body);
    body.items.length = 0;
    body.nested.total = 99;
    return { ...result, changed: body };
  }

  @Post('uuid')
  @Idempotent({ keyFormat: 'uuid' })
  uuid(): Promise<object> {
    return this.effects.add('uuid');
  }

  @Post('uuidv7')
  @Idempotent({ keyFormat: 'uuidv7' })
  uuidv7(): Promise<object> {
    return this.effects.add('uuidv7');
  }

  @Post('pattern')
  @Idempotent({ keyFormat: /^order-\d+$/g })
  pattern(): Promise<object> {
    return this.effects.add('pattern');
  }

  @Post('predicate')
  @Idempotent({ keyFormat: (key) => key.startsWith('ok-') })
  predicate(): Promise<object> {
    return this.effects.add('predicate');
  }

  @Post('header')
  @Idempotent({ header: 'X-Request-Id' })
  header(): Promise<object> {
    return this.effects.add('header');
  }

  @Post('optional')
  @Idempotent({ required: false })
  optional(): Promise<object> {
    return this.effects.add('optional');
  }

  @Post('by-item')
  @Idempotent({ fingerprint: ({ body }) => (body as { itemId: string }).itemId })
  byItem(@Body() body: unknown): Promise<object> {
    return this.effects.add(body);
  }

  @Post('promised')
  @Idempotent({ fingerprint: ({ body }) => Promise.resolve(body) })
  promised(): Promise<object> {
    return this.effects.add('promised');
  }
}

@Controller('class')
@Idempotent()
class CoveredController {
  constructor(@Inject(Effects) private readonly effects: Effects) {}

  @Get()
  get(): Promise<object> {
    return this.effects.add('get');
  }
  @Post()
  post(): Promise<object> {
    return this.effects.add('post');
  }
  @Put()
  put(): Promise<object> {
    return this.effects.add('put');
  }
  @Patch()
  patch(): Promise<object> {
    return this.effects.add('patch');
  }
  @Delete()
  delete(): Promise<object> {
    return this.effects.add('delete');
  }
  @All('all')
  all(): Promise<object> {
    return this.effects.add('all');
  }
}

abstract class BaseController {
  constructor(@Inject(Effects) protected readonly effects: Effects) {}

  @Post('inherited')
  @Idempotent()
  inherited(): Promise<object> {
    return this.effects.add(`inherited by ${this.constructor.name}`);
  }

  @Post('overridden')
  @Idempotent()
  overridden(): Promise<object> {
    return this.effects.add('base');
  }

  @Post('undecorated')
  undecorated(): Promise<object> {
    return this.effects.add('undecorated');
  }
}

/** Made anew for each request, as what it is given of it. */
@Controller({ path: 'per-request', scope: Scope.REQUEST })
export class PerRequestController {
  static made = 0;

  constructor(
    @Inject(Effects) private readonly effects: Effects,
    @Inject(REQUEST) private readonly request: { headers: Record<string, string> },
  ) {
    PerRequestController.made++;
  }

  @Post()
  @Idempotent()
  add(): Promise<object> {
    return this.effects.add(this.request.headers['x-note']);
  }
}

@Controller('first')
class FirstController extends BaseController {
  @Post('overridden')
  @Idempotent()
  override async overridden(): Promise<object> {
    return { first: true, ...(await super.overridden()) };
  }
}

@Controller('second')
@Idempotent()
class SecondController extends BaseController {
  @Post('overridden')
  override async overridden(): Promise<object> {
    return { second: true, ...(await super.overridden()) };
  }
}

interface Problem {
  type: string;
  title: string;
  status: number;
  statusCode: number;
  message: string;
  detail: string;
  code: string;
}

let platform: Platform;
/** Emptied before each test. */
export let database: TestDatabase;
export let app: TestApp;
export let effects: Effects;

export const start = (options: Partial<TestAppOptions> = {}): Promise<TestApp> =>
  startApp({
    databaseUrl: database.url,
    platform,
    providers: [Effects],
    controllers: [
      OrdersController,
      CoveredController,
      FirstController,
      SecondController,
      PerRequestController,
    ],
    poolSize: 5,
    idempotency: { reapInterval: false },
    ...options,
  });

/** For all tests of the block that calls it: one database, and one application with every controller of this file. */
export function useIdentity(on: Platform): void {
  beforeAll(async () => {
    platform = on;
    database = await createDatabase();
    await database.pool.query('CREATE TABLE effects (id serial PRIMARY KEY, note text)');
    app = await start();
    effects = app.app.get(Effects);
  });
  afterAll(async () => {
    await app?.close();
    await database?.drop();
  });
  beforeEach(() => database.pool.query('TRUNCATE effects, idempotency_keys, idempotency_steps'));
}

export const post = (
  path: string,
  key: string | string[] | undefined,
  options: RequestOptions = {},
): Promise<Answer> =>
  send(`${app.url}${path}`, {
    body: {},
    ...options,
    headers: { ...(key === undefined ? {} : { 'Idempotency-Key': key }), ...options.headers },
  });
export const counts = async (): Promise<{ effects: number; records: number }> => {
  const [row] = await database.rows<{ effects: number; records: number }>(
    'SELECT (SELECT count(*)::int FROM effects) AS effects, (SELECT count(*)::int FROM idempotency_keys) AS records',
  );
  return row ?? { effects: -1, records: -1 };
};
export const record = async (): Promise<Record<string, unknown> | undefined> =>
  (await database.rows('SELECT *, xmin, xmax FROM idempotency_keys'))[0];
export const expectReplay = (answer: Answer, first: Answer): void => {
  expect(answer.status).toBe(200);
  expect(answer.headers['idempotent-replayed']).toBe('true');
  expect(answer.body.equals(first.body)).toBe(true);
};
export const expectProblem = (answer: Answer, status: number, code: string): Problem => {
  expect(answer.status).toBe(status);
  expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/);
  const problem = answer.json<Problem>();
  expect(problem).toMatchObject({ status, statusCode: status, code });
  expect(problem.detail).toBe(problem.message);
  expect(answer.headers.link).toBe(`<${problem.type}>; rel="describedby"; type="text/html"`);
  expect(answer.headers['idempotent-replayed']).toBeUndefined();
  return problem;
};
