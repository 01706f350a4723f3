import net from 'node:net';
import {
  All,
  Body,
  Controller,
  Delete,
  Get,
  Headers,
  Inject,
  Injectable,
  type INestApplication,
  Param,
  Patch,
  Post,
  Put,
  Query,
  Scope,
  VersioningType,
} from '@nestjs/common';
import { REQUEST } from '@nestjs/core';
import { getDataSourceToken } from '@nestjs/typeorm';
import { Idempotent } from 'nestjs-pg-idempotency';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { PLATFORMS, startApp, type TestApp, type TestAppOptions } from './support/app.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { type Answer, type RequestOptions, send } from './support/http.js';
import { type Deferred, deferred, until } from './support/until.js';

/** Writes one row per execution; a handler that runs twice leaves two. */
@Injectable()
class Effects {
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
class PerRequestController {
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

@Controller({ path: 'versioned', version: ['1', '2'] })
class VersionedController {
  constructor(@Inject(Effects) private readonly effects: Effects) {}

  @Post(':id')
  @Idempotent()
  add(@Param('id') id: string): Promise<object> {
    return this.effects.add(id);
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

/** Bytes on a socket of our own: what clients would not let us send. Answers what came back. */
function sendBytes(url: string, headerLines: (string | Buffer)[], body = '{}'): Promise<Answer> {
  const { hostname, port, pathname } = new URL(url);
  const line = (text: string | Buffer): Buffer =>
    Buffer.concat([Buffer.from(text as string), Buffer.from('\r\n')]);
  return new Promise((resolve, reject) => {
    const socket = net.connect(Number(port), hostname, () => {
      socket.write(
        Buffer.concat([
          line(`POST ${pathname} HTTP/1.1`),
          line('Host: localhost'),
          line('Connection: close'),
          line('Content-Type: application/json'),
          line(`Content-Length: ${Buffer.byteLength(body)}`),
          ...headerLines.map(line),
          line(body === '' ? '' : `\r\n${body}`),
        ]),
      );
    });
    const chunks: Buffer[] = [];
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('error', reject);
    socket.on('close', () => {
      const [head = '', ...rest] = Buffer.concat(chunks).toString('utf8').split('\r\n\r\n');
      const [status = '', ...headers] = head.split('\r\n');
      const text = rest.join('\r\n\r\n');
      resolve({
        status: Number(status.split(' ')[1]),
        headers: Object.fromEntries(
          headers.map((header) => {
            const colon = header.indexOf(':');
            return [header.slice(0, colon).toLowerCase(), header.slice(colon + 1).trim()];
          }),
        ),
        body: Buffer.from(text),
        text,
        json: <T>() => JSON.parse(text) as T,
      });
    });
  });
}

describe.each(PLATFORMS)('identity of a request on %s', (platform) => {
  let database: TestDatabase;
  let app: TestApp;
  let effects: Effects;

  const start = (options: Partial<TestAppOptions> = {}): Promise<TestApp> =>
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

  beforeAll(async () => {
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

  const post = (
    path: string,
    key: string | string[] | undefined,
    options: RequestOptions = {},
  ): Promise<Answer> =>
    send(`${app.url}${path}`, {
      body: {},
      ...options,
      headers: { ...(key === undefined ? {} : { 'Idempotency-Key': key }), ...options.headers },
    });
  const counts = async (): Promise<{ effects: number; records: number }> => {
    const [row] = await database.rows<{ effects: number; records: number }>(
      'SELECT (SELECT count(*)::int FROM effects) AS effects, (SELECT count(*)::int FROM idempotency_keys) AS records',
    );
    return row ?? { effects: -1, records: -1 };
  };
  const record = async (): Promise<Record<string, unknown> | undefined> =>
    (await database.rows('SELECT *, xmin, xmax FROM idempotency_keys'))[0];
  const expectReplay = (answer: Answer, first: Answer): void => {
    expect(answer.status).toBe(200);
    expect(answer.headers['idempotent-replayed']).toBe('true');
    expect(answer.body.equals(first.body)).toBe(true);
  };
  const expectProblem = (answer: Answer, status: number, code: string): Problem => {
    expect(answer.status).toBe(status);
    expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/);
    const problem = answer.json<Problem>();
    expect(problem).toMatchObject({ status, statusCode: status, code });
    expect(problem.detail).toBe(problem.message);
    expect(answer.headers.link).toBe(`<${problem.type}>; rel="describedby"; type="text/html"`);
    expect(answer.headers['idempotent-replayed']).toBeUndefined();
    return problem;
  };

  describe('a key used for another request', () => {
    const original = { itemId: 'a', quantity: 1, note: null };
    const others: [what: string, path: string, body: unknown][] = [
      ['another value', '/orders/1/items?size=m&gift=no', { ...original, quantity: 2 }],
      ['a value of another type', '/orders/1/items?size=m&gift=no', { ...original, quantity: '1' }],
      ['null in place of absence', '/orders/1/items?size=m&gift=no', { itemId: 'a', quantity: 1 }],
      ['a member more', '/orders/1/items?size=m&gift=no', { ...original, more: 0 }],
      ['another path parameter', '/orders/2/items?size=m&gift=no', original],
      ['another query value', '/orders/1/items?size=l&gift=no', original],
      ['a query parameter more', '/orders/1/items?size=m&gift=no&x', original],
      ['a query parameter less', '/orders/1/items?size=m', original],
      ['values of the query swapped', '/orders/1/items?size=no&gift=m', original],
      ['an empty body', '/orders/1/items?size=m&gift=no', {}],
      ['an array around it', '/orders/1/items?size=m&gift=no', [original]],
      ['another route', '/orders/mutating?size=m&gift=no', original],
    ];

    it.each(others)(
      'is refused with 422 for %s, and leaves the stored answer untouched',
      async (_what, path, body) => {
        const first = await post('/orders/1/items?size=m&gift=no', 'k', { body: original });
        expect(first.status).toBe(201);
        const before = await record();

        const reused = await post(path, 'k', { body });

        expect(await counts()).toEqual({ effects: 1, records: 1 });
        // Not even the trace of a lock: xmin and xmax are compared too.
        expect(await record()).toEqual(before);
        expectProblem(reused, 422, 'IDEMPOTENCY_KEY_REUSED');
        expectReplay(await post('/orders/1/items?size=m&gift=no', 'k', { body: original }), first);
      },
    );

    it('is refused with 422, not 409, while the first is in flight, which goes on undisturbed', async () => {
      const gate = deferred();
      effects.gates.set('held', gate);
      const held = { headers: { 'x-gate': 'held' } };
      const first = post('/orders/1/items?size=m', 'k', { body: original, ...held });
      await until('the handler is entered', () => effects.entered.has('held'));

      const reused = [
        await post('/orders/1/items?size=m', 'k', { body: { ...original, quantity: 2 } }),
        await post('/orders/2/items?size=m', 'k', { body: original }),
        await post('/orders/1/items?size=l', 'k', { body: original }),
      ];
      const same = await post('/orders/1/items?size=m', 'k', { body: original });
      gate.resolve();
      const answer = await first;

      expect(await counts()).toEqual({ effects: 1, records: 1 });
      for (const refused of reused) expectProblem(refused, 422, 'IDEMPOTENCY_KEY_REUSED');
      expectProblem(same, 409, 'IDEMPOTENCY_KEY_IN_USE');
      expect(same.headers['retry-after']).toBe('1');
      expect(answer.status).toBe(201);
      expectReplay(await post('/orders/1/items?size=m', 'k', { body: original }), answer);
    });

    it('is refused with 422 by another process too, while the first is in flight there', async () => {
      // Another application on the same table: nothing is known of the first but its row.
      const other = await start();
      try {
        const gate = deferred();
        effects.gates.set('elsewhere', gate);
        const first = post('/orders/1/items', 'k', { body: original, headers: { 'x-gate': 'elsewhere' } });
        await until('the handler is entered', () => effects.entered.has('elsewhere'));

        const elsewhere = (body: unknown): Promise<Answer> =>
          send(`${other.url}/orders/1/items`, { body, headers: { 'Idempotency-Key': 'k' } });
        const reused = await elsewhere({ ...original, quantity: 2 });
        const same = await elsewhere(original);
        gate.resolve();
        const answer = await first;

        expect(await counts()).toEqual({ effects: 1, records: 1 });
        expectProblem(reused, 422, 'IDEMPOTENCY_KEY_REUSED');
        expectProblem(same, 409, 'IDEMPOTENCY_KEY_IN_USE');
        expectReplay(await elsewhere(original), answer);
      } finally {
        await other.close();
      }
    });
  });

  describe('the same request in another form', () => {
    it('is replayed with the members of its body in another order, at any depth', async () => {
      const first = await post('/orders/1/items', 'k', {
        body: { a: 1, b: { c: [1, { d: 2, e: 3 }], f: 4 } },
      });
      const again = await post('/orders/1/items', 'k', {
        body: ' { "b" : {"f":4, "c":[1,{"e":3,"d":2}]},\n"a": 1.0 } ',
        headers: { 'content-type': 'application/json; charset=utf-8' },
      });
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expectReplay(again, first);
    });

    it('is another one with the elements of an array in another order', async () => {
      await post('/orders/1/items', 'k', { body: [1, 2] });
      const reused = await post('/orders/1/items', 'k', { body: [2, 1] });
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expectProblem(reused, 422, 'IDEMPOTENCY_KEY_REUSED');
    });

    it('is replayed with query parameters in another order or escaped in another way', async () => {
      const first = await post('/orders/1/items?b=2%20x&a=%7e1&a=0', 'k');
      const again = await post('/orders/1/items?a=~1&a=0&b=2+x', 'k');
      const trailing = await post('/orders/%31/items?a=~1&a=0&b=2+x', 'k');
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expectReplay(again, first);
      expectReplay(trailing, first);
      // Values of one parameter have an order that means something.
      expectProblem(await post('/orders/1/items?a=0&a=~1&b=2+x', 'k'), 422, 'IDEMPOTENCY_KEY_REUSED');
    });

    it('has one key, quoted or bare', async () => {
      const first = await post('/orders/1/items', 'order 1/a');
      expectReplay(await post('/orders/1/items', '"order 1/a"'), first);
      expectReplay(await post('/orders/1/items', '  "order 1/a"  '), first);
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      const quoted = await post('/orders/1/items', '"with \\"quotes\\" and, commas"');
      expect(quoted.status).toBe(201);
      expect(await database.rows('SELECT key FROM idempotency_keys ORDER BY created_at')).toEqual([
        { key: 'order 1/a' },
        { key: 'with "quotes" and, commas' },
      ]);
    });

    it('has two keys when they differ in case', async () => {
      await post('/orders/1/items', 'Key');
      await post('/orders/1/items', 'key');
      expect(await counts()).toEqual({ effects: 2, records: 2 });
    });

    it('takes effect twice under two keys, though its body is the same', async () => {
      const one = await post('/orders/1/items', 'k1', { body: { itemId: 'a' } });
      const two = await post('/orders/1/items', 'k2', { body: { itemId: 'a' } });
      expect(await counts()).toEqual({ effects: 2, records: 2 });
      expect([one.status, two.status]).toEqual([201, 201]);
      expect(one.text).not.toBe(two.text);
    });

    it('is replayed although its handler changed the body it was given', async () => {
      const body = { items: ['a', 'b'], nested: {} };
      const first = await post('/orders/mutating', 'k', { body });
      const again = await post('/orders/mutating', 'k', { body });
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expect(first.status).toBe(201);
      expectReplay(again, first);
      // What the handler made of the body is not what a client has to repeat.
      expectProblem(
        await post('/orders/mutating', 'k', { body: { items: [], nested: { total: 99 } } }),
        422,
        'IDEMPOTENCY_KEY_REUSED',
      );
    });
  });

  describe('a key that is none', () => {
    const expectNothing = async (): Promise<void> => {
      expect(await counts()).toEqual({ effects: 0, records: 0 });
    };

    it('is required', async () => {
      const answer = await post('/orders/1/items', undefined);
      await expectNothing();
      expectProblem(answer, 400, 'IDEMPOTENCY_KEY_REQUIRED');
    });

    it.each<[what: string, key: string | string[]]>([
      ['empty', ''],
      ['blank', '   '],
      ['an empty string in quotes', '""'],
      ['blank in quotes', '"  "'],
      ['256 characters', 'k'.repeat(256)],
      ['256 characters in quotes', `"${'k'.repeat(256)}"`],
      ['an unfinished quote', '"k'],
      ['two quoted strings', '"a" "b"'],
      ['quoted with a parameter', '"a";p=1'],
      ['two in one line', 'a, b'],
      ['with a tab inside', 'a\tb'],
      ['with a tab in quotes', '"a\tb"'],
      ['an array of one header twice', ['k', 'k']],
      ['an array of two', ['a', 'b']],
      ['an array with an empty one', ['a', '']],
      ['latin-1', 'schl\u00fcssel'],
      ['a control character of latin-1, in quotes', '"a\u0080b"'],
    ])('is refused with 400 when it is %s', async (_what, key) => {
      const answer = await post('/orders/1/items', key);
      await expectNothing();
      expectProblem(answer, 400, 'IDEMPOTENCY_KEY_INVALID');
    });

    it.each<[what: string, lines: (string | Buffer)[]]>([
      ['empty', ['Idempotency-Key:']],
      ['in two lines', ['Idempotency-Key: k', 'Idempotency-Key: k']],
      ['in two lines of other case', ['idempotency-key: k', 'IDEMPOTENCY-KEY: k']],
      ['in two lines, one of them empty', ['Idempotency-Key: k', 'Idempotency-Key:']],
      ['in two lines, the first one empty', ['Idempotency-Key:', 'Idempotency-Key: k']],
      ['in UTF-8', [Buffer.from('Idempotency-Key: schlüssel')]],
      ['an emoji', [Buffer.from('Idempotency-Key: 🔑')]],
      [
        'bytes that are no UTF-8',
        [Buffer.concat([Buffer.from('Idempotency-Key: a'), Buffer.from([0xff, 0xfe])])],
      ],
    ])('is refused with 400 on the wire when it is %s', async (_what, lines) => {
      const answer = await sendBytes(`${app.url}/orders/1/items`, lines);
      await expectNothing();
      expectProblem(answer, 400, 'IDEMPOTENCY_KEY_INVALID');
    });

    // Node's own parser refuses these before any application sees the request: a 400 without a body of ours.
    it.each([0x00, 0x01, 0x08, 0x0b, 0x1b, 0x7f])(
      'is refused with 400 by Node when it holds the byte 0x%s',
      async (byte) => {
        const answer = await sendBytes(`${app.url}/orders/1/items`, [
          Buffer.concat([Buffer.from('Idempotency-Key: a'), Buffer.from([byte]), Buffer.from('b')]),
        ]);
        await expectNothing();
        expect(answer.status).toBe(400);
        expect(answer.headers['content-type'] ?? '').not.toContain('problem');
      },
    );

    it('is never told by a problem document', async () => {
      const secret = 'S3cret-of-a-caller';
      const answers = [
        await post('/orders/1/items', `${secret}\t`.repeat(2)),
        await post('/orders/1/items', `"${secret}`),
        await post('/orders/1/items', secret.repeat(20)),
        await post('/orders/uuid', secret),
        await post('/orders/pattern', secret),
        await post('/orders/1/items', secret),
        await post('/orders/1/items', secret, { body: { other: true } }),
      ];
      expect(answers.map(({ status }) => status)).toEqual([400, 400, 400, 400, 400, 201, 422]);
      for (const answer of answers.filter(({ status }) => status !== 201)) {
        expect(answer.text).not.toContain('S3cret');
        expect(JSON.stringify(answer.headers)).not.toContain('S3cret');
      }
    });
  });

  describe('a key', () => {
    it('works with 255 characters', async () => {
      const key = 'k'.repeat(255);
      const first = await post('/orders/1/items', key);
      expect(await database.rows('SELECT length(key) AS length FROM idempotency_keys')).toEqual([
        { length: 255 },
      ]);
      expect(first.status).toBe(201);
      expectReplay(await post('/orders/1/items', `"${key}"`), first);
      expectProblem(await post('/orders/1/items', `${key}k`), 400, 'IDEMPOTENCY_KEY_INVALID');
    });

    it.each([
      `'; DROP TABLE idempotency_keys; --`,
      `' OR '1'='1`,
      String.raw`\x27\'`,
      '$1::text',
      '__proto__',
      'constructor',
      'toString',
      'null',
      'undefined',
      '0',
      '%00',
      '${7*7}',
      '!~',
    ])('works as %s', async (key) => {
      const first = await post('/orders/1/items', key);
      const again = await post('/orders/1/items', key);
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expect(await database.rows('SELECT key FROM idempotency_keys')).toEqual([{ key }]);
      expect(first.status).toBe(201);
      expectReplay(again, first);
    });

    const uuidv4 = '2f1f1d3c-8d0a-4c3e-9a56-3c9c0e2f7b11';
    const uuidv7 = '0190163d-8694-739b-aea5-966c26f8ad91';
    it.each<[route: string, good: string[], bad: string[]]>([
      [
        'uuid',
        [uuidv4, uuidv7, uuidv4.toUpperCase(), `"${uuidv4.replace('2f', '3f')}"`],
        ['k', `${uuidv4}0`, `{${uuidv4}}`, '00000000-0000-0000-0000-000000000000'],
      ],
      ['uuidv7', [uuidv7], [uuidv4, 'k']],
      ['pattern', ['order-1', 'order-22'], ['order-', 'order-1x', 'xorder-1']],
      ['predicate', ['ok-1'], ['no-1', 'x-ok-1']],
    ])('has the format that the route /orders/%s asks for', async (route, good, bad) => {
      for (const key of bad)
        expectProblem(await post(`/orders/${route}`, key), 400, 'IDEMPOTENCY_KEY_INVALID');
      expect(await counts()).toEqual({ effects: 0, records: 0 });
      for (const key of good) expect((await post(`/orders/${route}`, key)).status).toBe(201);
      expect(await counts()).toEqual({ effects: good.length, records: good.length });
      for (const key of good) expect((await post(`/orders/${route}`, key)).status).toBe(200);
      expect(await counts()).toEqual({ effects: good.length, records: good.length });
    });

    it('is read from the header that the route names, and from no other', async () => {
      const named = (name: string): Promise<Answer> =>
        post('/orders/header', undefined, { headers: { [name]: 'k' } });
      const missing = await named('Idempotency-Key');
      expect(await counts()).toEqual({ effects: 0, records: 0 });
      const problem = expectProblem(missing, 400, 'IDEMPOTENCY_KEY_REQUIRED');
      expect(problem.detail.toLowerCase()).toContain('x-request-id');
      const first = await named('X-Request-Id');
      expectReplay(await named('x-request-id'), first);
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expectProblem(
        await post('/orders/header', undefined, { headers: { 'X-Request-Id': ['k', 'k'] } }),
        400,
        'IDEMPOTENCY_KEY_INVALID',
      );
    });

    it('may be left out where it is not required, and then protects nothing; an empty one is refused all the same', async () => {
      const free = [await post('/orders/optional', undefined), await post('/orders/optional', undefined)];
      expect(await counts()).toEqual({ effects: 2, records: 0 });
      for (const answer of free) {
        expect(answer.status).toBe(201);
        expect(answer.headers['idempotent-replayed']).toBeUndefined();
      }
      expectProblem(await post('/orders/optional', ''), 400, 'IDEMPOTENCY_KEY_INVALID');
      expectProblem(await post('/orders/optional', ['a', 'b']), 400, 'IDEMPOTENCY_KEY_INVALID');
      expect(await counts()).toEqual({ effects: 2, records: 0 });
      const first = await post('/orders/optional', 'k');
      expectReplay(await post('/orders/optional', 'k'), first);
      expect(await counts()).toEqual({ effects: 3, records: 1 });
    });

    it('belongs to its namespace: two applications on one table do not know of each other', async () => {
      const other = await start({ idempotency: { namespace: 'other', reapInterval: false } });
      try {
        const there = (): Promise<Answer> =>
          send(`${other.url}/orders/1/items`, { body: {}, headers: { 'Idempotency-Key': 'k' } });
        const here = await post('/orders/1/items', 'k');
        const first = await there();
        expect(await counts()).toEqual({ effects: 2, records: 2 });
        expect(first.status).toBe(201);
        expect(first.text).not.toBe(here.text);
        expectReplay(await there(), first);
        expectReplay(await post('/orders/1/items', 'k'), here);
        expect(await counts()).toEqual({ effects: 2, records: 2 });
      } finally {
        await other.close();
      }
    });
  });

  describe('what counts of a body', () => {
    it('is what the route chooses', async () => {
      const first = await post('/orders/by-item', 'k', { body: { itemId: 'a', sentAt: 1 } });
      const again = await post('/orders/by-item', 'k', { body: { sentAt: 2, itemId: 'a' } });
      const reused = await post('/orders/by-item', 'k', { body: { itemId: 'b', sentAt: 1 } });
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expectReplay(again, first);
      expectProblem(reused, 422, 'IDEMPOTENCY_KEY_REUSED');
    });

    it('cannot be a promise, which would be equal to every other', async () => {
      const answer = await post('/orders/promised', 'k');
      expect(await counts()).toEqual({ effects: 0, records: 0 });
      expect(answer.status).toBe(500);
    });

    it.each([
      ['text/xml', '<order/>'],
      ['application/xml', '<order/>'],
      ['application/octet-stream', Buffer.from([1, 2, 3])],
      [
        'multipart/form-data; boundary=b',
        '--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n',
      ],
    ])('cannot be told when no parser took it: %s is answered 415', async (type, body) => {
      const answer = await post('/orders/1/items', 'k', { body, headers: { 'content-type': type } });
      expect(await counts()).toEqual({ effects: 0, records: 0 });
      // Fastify refuses it by itself, before the library is asked.
      expect(answer.status).toBe(415);
      if (platform === 'express') expectProblem(answer, 415, 'IDEMPOTENCY_BODY_NOT_PARSED');
    });

    it('cannot be told when no parser took it, chunked as well', async () => {
      const answer = await post('/orders/1/items', 'k', {
        body: '<order/>',
        headers: { 'content-type': 'text/xml', 'transfer-encoding': 'chunked', 'content-length': [] },
      });
      expect(await counts()).toEqual({ effects: 0, records: 0 });
      expect(answer.status).toBe(415);
    });

    it('may be nothing', async () => {
      const first = await send(`${app.url}/orders/1/items`, { headers: { 'Idempotency-Key': 'k' } });
      const again = await send(`${app.url}/orders/1/items`, { headers: { 'Idempotency-Key': 'k' } });
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expect(first.status).toBe(201);
      expectReplay(again, first);
      expectProblem(await post('/orders/1/items', 'k', { body: {} }), 422, 'IDEMPOTENCY_KEY_REUSED');
    });

    it.each([1_001, 5_000, 40_000])('is answered 4xx when it is %d levels deep', async (depth) => {
      const body = '['.repeat(depth) + ']'.repeat(depth);
      const answer = await post('/orders/1/items', 'k', {
        body,
        headers: { 'content-type': 'application/json' },
      });
      expect(await counts()).toEqual({ effects: 0, records: 0 });
      expect(answer.status).toBeGreaterThanOrEqual(400);
      expect(answer.status).toBeLessThan(500);
      // The process lives.
      expect((await post('/orders/1/items', 'k')).status).toBe(201);
    });

    it('is compared down to 1,000 levels', async () => {
      const nested = (leaf: string): RequestOptions => ({
        body: '['.repeat(1_000) + leaf + ']'.repeat(1_000),
        headers: { 'content-type': 'application/json' },
      });
      const deepest = (leaf: string): RequestOptions => ({
        body: '['.repeat(999) + leaf + ']'.repeat(999),
        headers: { 'content-type': 'application/json' },
      });
      const first = await post('/orders/1/items', 'k', deepest('1'));
      expect(first.status).toBe(201);
      expectReplay(await post('/orders/1/items', 'k', deepest('1')), first);
      expectProblem(await post('/orders/1/items', 'k', deepest('2')), 422, 'IDEMPOTENCY_KEY_REUSED');
      expect((await post('/orders/1/items', 'other', nested('1'))).status).toBeGreaterThanOrEqual(400);
      expect(await counts()).toEqual({ effects: 1, records: 1 });
    });

    it('holds a member called __proto__ like any other', async () => {
      const json = { 'content-type': 'application/json' };
      const first = await post('/orders/1/items', 'k', { body: '{"__proto__":{"a":1}}', headers: json });
      const reused = await post('/orders/1/items', 'k', { body: '{"__proto__":{"a":2}}', headers: json });
      if (platform === 'fastify') {
        // Fastify refuses such a body by itself.
        expect(await counts()).toEqual({ effects: 0, records: 0 });
        expect([first.status, reused.status]).toEqual([400, 400]);
      } else {
        expect(await counts()).toEqual({ effects: 1, records: 1 });
        expectProblem(reused, 422, 'IDEMPOTENCY_KEY_REUSED');
      }
    });

    it('is compared as a form too', async () => {
      const form = (body: string): Promise<Answer> =>
        post('/orders/1/items', 'k', {
          body,
          headers: { 'content-type': 'application/x-www-form-urlencoded' },
        });
      const first = await form('a=1&b=2');
      const again = await form('b=2&a=1');
      const reused = await form('a=1&b=3');
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expect(first.status).toBe(201);
      expectReplay(again, first);
      expectProblem(reused, 422, 'IDEMPOTENCY_KEY_REUSED');
    });
  });

  describe('a decorated class', () => {
    it.each(['POST', 'PATCH'])('is protected for %s', async (method) => {
      const missing = await post('/class', undefined, { method });
      expect(await counts()).toEqual({ effects: 0, records: 0 });
      expectProblem(missing, 400, 'IDEMPOTENCY_KEY_REQUIRED');
      const first = await post('/class', 'k', { method });
      const again = await post('/class', 'k', { method });
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expect(first.headers['idempotent-replayed']).toBe('false');
      expectReplay(again, first);
    });

    it.each(['GET', 'PUT', 'DELETE'])('is left alone for %s, with a key and without', async (method) => {
      const body = method === 'GET' ? undefined : {};
      const answers = [
        await post('/class', undefined, { method, body }),
        await post('/class', 'k', { method, body }),
        await post('/class', 'k', { method, body }),
        await post('/class', '', { method, body }),
      ];
      expect(await counts()).toEqual({ effects: 4, records: 0 });
      for (const answer of answers) {
        expect(answer.status).toBe(200);
        expect(answer.headers['idempotent-replayed']).toBeUndefined();
      }
    });

    it('tells methods of one key and path apart', async () => {
      const posted = await post('/class', 'k');
      const patched = await post('/class', 'k', { method: 'PATCH' });
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expect(posted.status).toBe(201);
      expectProblem(patched, 422, 'IDEMPOTENCY_KEY_REUSED');
    });

    it('looks at the method of each request to an @All() route', async () => {
      await post('/class/all', undefined, { method: 'PUT' });
      expect(await counts()).toEqual({ effects: 1, records: 0 });
      const first = await post('/class/all', 'k');
      expectReplay(await post('/class/all', 'k'), first);
      expect(await counts()).toEqual({ effects: 2, records: 1 });
    });
  });

  describe('a controller that inherits', () => {
    it.each(['first', 'second'])('protects the inherited method of /%s', async (name) => {
      const first = await post(`/${name}/inherited`, 'k');
      const again = await post(`/${name}/inherited`, 'k');
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expect(first.json()).toMatchObject({
        note: `inherited by ${name === 'first' ? 'First' : 'Second'}Controller`,
      });
      expectReplay(again, first);
    });

    it.each(['first', 'second'])(
      'protects the overriding method of /%s, and calls the overridden one once',
      async (name) => {
        const first = await post(`/${name}/overridden`, 'k');
        const again = await post(`/${name}/overridden`, 'k');
        expect(await counts()).toEqual({ effects: 1, records: 1 });
        expect(first.json()).toMatchObject({ [name]: true, note: 'base' });
        expectReplay(again, first);
      },
    );

    it('takes the decorator of its own class for methods without one', async () => {
      await post('/first/undecorated', 'k');
      await post('/first/undecorated', 'k');
      expect(await counts()).toEqual({ effects: 2, records: 0 });
      await post('/second/undecorated', 'k');
      await post('/second/undecorated', 'k');
      expect(await counts()).toEqual({ effects: 3, records: 1 });
    });
  });

  it('is the same for a controller that is made anew for each request', async () => {
    const before = PerRequestController.made;
    const headers = { 'x-note': 'from the request' };
    const first = await post('/per-request', 'k', { headers });
    const again = await post('/per-request', 'k', { headers });
    expect(await counts()).toEqual({ effects: 1, records: 1 });
    expect(PerRequestController.made - before).toBe(2);
    expect(first.json()).toMatchObject({ note: 'from the request' });
    expectReplay(again, first);
  });

  describe('behind a global prefix and versions in the path', () => {
    let versioned: TestApp;
    beforeAll(async () => {
      versioned = await start({
        controllers: [VersionedController],
        prepare: (nest: INestApplication) => {
          nest.setGlobalPrefix('api');
          nest.enableVersioning({ type: VersioningType.URI });
        },
      });
    });
    afterAll(() => versioned?.close());

    it('protects the route, whose operation is its whole pattern', async () => {
      const add = (path: string): Promise<Answer> =>
        send(`${versioned.url}${path}`, { body: {}, headers: { 'Idempotency-Key': 'k' } });
      const first = await add('/api/v1/versioned/7');
      const again = await add('/api/v1/versioned/7');
      const reused = await add('/api/v2/versioned/7');
      expect(await counts()).toEqual({ effects: 1, records: 1 });
      expect(await database.rows('SELECT operation FROM idempotency_keys')).toEqual([
        { operation: 'POST /api/v1/versioned/:id' },
      ]);
      expect(first.status).toBe(201);
      expectReplay(again, first);
      expectProblem(reused, 422, 'IDEMPOTENCY_KEY_REUSED');
    });
  });
});
