import { randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import {
  ClassSerializerInterceptor,
  Controller,
  Get,
  HttpCode,
  type INestApplication,
  type NestInterceptor,
  Post,
  SerializeOptions,
  StreamableFile,
  type Type,
  UseInterceptors,
} from '@nestjs/common';
import { APP_INTERCEPTOR, Reflector } from '@nestjs/core';
import { Exclude, Expose } from 'class-transformer';
import { Idempotent, IdempotencyEvents, type IdempotencyEvent } from 'nestjs-pg-idempotency';
import { map } from 'rxjs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { PLATFORMS } from './support/app.js';
import type { Answer } from './support/http.js';
import { openStage, type Script, scripted, type StagedApp } from './support/stage.js';

const PNG = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0xff, 0xfe]);
const LIMIT = 64;

/** What a client can tell one answer from another by, the status and the marker aside. */
const content = ({ body, headers }: Answer): unknown => ({
  body: body.toString('hex'),
  type: headers['content-type'],
  disposition: headers['content-disposition'],
});

const RESULTS: readonly { name: string; path?: string; value: () => unknown }[] = [
  { name: 'an object', value: () => ({ b: 1, a: [1, 'x', null, true], nested: { z: 0.1, 10: 'ten' } }) },
  { name: 'an array', value: () => [{ id: 1 }, [], null] },
  { name: 'a string', value: () => 'plain text' },
  { name: 'a string that looks like JSON', value: () => '{"a":1}' },
  { name: 'an empty string', value: () => '' },
  { name: 'null', value: () => null },
  { name: 'nothing', value: () => undefined },
  { name: 'a number', value: () => 42.5 },
  { name: 'zero', value: () => 0 },
  { name: 'false', value: () => false },
  { name: 'a Date inside', value: () => ({ at: new Date('2026-01-02T03:04:05.678Z') }) },
  {
    name: 'NUL, emoji and a lone surrogate inside',
    value: () => ({ text: '\u0000 é 🛒 \ud800 \u2028 <&>' }),
  },
  { name: 'NUL and emoji as a string', value: () => '\u0000 é 🛒' },
  { name: 'a Buffer', value: () => PNG },
  { name: 'a StreamableFile of bytes', value: () => new StreamableFile(PNG, { type: 'image/png' }) },
  {
    name: 'a small StreamableFile of a stream',
    value: () =>
      new StreamableFile(Readable.from([PNG, Buffer.from('end')], { objectMode: false }), {
        type: 'application/x-two',
        disposition: 'attachment; filename="a.bin"',
      }),
  },
];

describe.each(PLATFORMS)('results on %s', (platform) => {
  let app: StagedApp;
  const seen: IdempotencyEvent[] = [];

  beforeAll(async () => {
    app = await openStage({
      platform,
      controllers: [
        scripted('idempotent', Idempotent()),
        scripted('plain'),
        scripted('no-content', HttpCode(204), Idempotent()),
        scripted('reset-content', HttpCode(205), Idempotent()),
        scripted('accepted', HttpCode(202), Idempotent()),
        scripted('original', HttpCode(202), Idempotent({ replayStatus: 'original' })),
        scripted('small', Idempotent({ maxResponseBytes: LIMIT })),
        scripted('no-bodies', Idempotent({ maxResponseBytes: 0 })),
        scripted('headers', Idempotent({ replayHeaders: ['X-Total', 'Location'] })),
      ],
    });
    app.app.get(IdempotencyEvents).events.subscribe((event) => seen.push(event));
  });
  afterEach(() => app.quiet());
  afterAll(() => app.close());

  const play = (script: Script): string => app.play(script);
  const post = (path: string, label: string): Promise<Answer> => app.postTo(path, label);
  const effectOf = async (label: string): Promise<{ effects: number; runs: number }> => ({
    effects: await app.effects(label),
    runs: app.stage.runs(label),
  });

  it.each(RESULTS)('replay $name byte for byte, as the route alone answers it', async ({ value }) => {
    const label = play(async ({ write }) => {
      await write();
      return value();
    });
    const first = await post('idempotent', label);
    const replays = [await post('idempotent', label), await post('idempotent', label)];
    expect(await effectOf(label)).toEqual({ effects: 1, runs: 1 });
    const alone = await post('plain', label);
    expect(content(first)).toEqual(content(alone));
    for (const replay of replays) expect(content(replay)).toEqual(content(first));
    expect([first, ...replays].map(({ status }) => status)).toEqual([201, 200, 200]);
    expect([first, ...replays].map(({ headers }) => headers['idempotent-replayed'])).toEqual([
      'false',
      'true',
      'true',
    ]);
  });

  it('keep the very bytes that were sent', async () => {
    const label = play(() => ({ text: '\u0000 🛒', at: new Date(0) }));
    const first = await post('idempotent', label);
    const { response_body: stored, response_status: status } = await app.record(label);
    expect(stored?.equals(first.body)).toBe(true);
    expect(status).toBe(201);
  });

  it.each([
    { path: 'no-content', status: 204 },
    { path: 'reset-content', status: 205 },
  ])('are nothing with $status, on a replay too', async ({ path, status }) => {
    const label = play(async ({ write }) => {
      await write();
      return undefined;
    });
    const answers = [await post(path, label), await post(path, label)];
    expect(await effectOf(label)).toEqual({ effects: 1, runs: 1 });
    expect(answers.map(({ status: sent, body }) => [sent, body.length])).toEqual([
      [status, 0],
      [status, 0],
    ]);
    expect(answers.map(({ headers }) => headers['idempotent-replayed'])).toEqual(['false', 'true']);
  });

  it.each([
    { path: 'accepted', replayed: 200 },
    { path: 'original', replayed: 202 },
  ])('of 202 are replayed as $replayed by /$path', async ({ path, replayed }) => {
    const label = play(() => ({ accepted: true }));
    expect((await post(path, label)).status).toBe(202);
    expect((await post(path, label)).status).toBe(replayed);
  });

  it('take the headers that say what they are along, and never a cookie', async () => {
    const label = play(async ({ write, reply }) => {
      await write();
      reply.header('Location', `/things/${label}`);
      reply.header('ETag', '"v1"');
      reply.header('Set-Cookie', ['session=secret; HttpOnly']);
      reply.header('X-Total', '1');
      return { made: true };
    });
    const first = await post('idempotent', label);
    const replay = await post('idempotent', label);
    expect(await effectOf(label)).toEqual({ effects: 1, runs: 1 });
    expect(first.headers).toMatchObject({
      location: `/things/${label}`,
      etag: '"v1"',
      'set-cookie': ['session=secret; HttpOnly'],
      'x-total': '1',
    });
    expect(replay.headers).toMatchObject({ location: `/things/${label}`, etag: '"v1"' });
    expect(replay.headers['set-cookie']).toBeUndefined();
    expect(replay.headers['x-total']).toBeUndefined();
    expect(JSON.stringify(await app.record(label))).not.toContain('session');
  });

  it('take the headers along that the route names, and no other', async () => {
    const label = play(({ reply }) => {
      reply.header('X-Total', '1');
      reply.header('ETag', '"v1"');
      return { made: true };
    });
    await post('headers', label);
    const { headers } = await post('headers', label);
    expect(headers['x-total']).toBe('1');
    expect(headers.etag).not.toBe('"v1"');
  });

  describe('that cannot be stored', () => {
    const UNSTORABLE: readonly { name: string; path: string; value: () => unknown }[] = [
      { name: 'BigInt inside', path: 'idempotent', value: () => ({ n: 1n }) },
      { name: 'a circle', path: 'idempotent', value: circle },
      { name: 'one byte over the limit', path: 'small', value: () => 'x'.repeat(LIMIT + 1) },
      {
        name: 'a file over the limit',
        path: 'small',
        value: () => new StreamableFile(Buffer.alloc(5_000, 'y'), { type: 'text/plain' }),
      },
      {
        name: 'a stream over the limit',
        path: 'small',
        value: () =>
          new StreamableFile(Readable.from([Buffer.alloc(100), Buffer.alloc(100)], { objectMode: false })),
      },
      { name: 'any body where none is kept', path: 'no-bodies', value: () => ({ a: 1 }) },
    ];

    it.each(UNSTORABLE)(
      'are answered once as the route alone answers, then 500, and never run again: $name',
      async ({ path, value }) => {
        const label = play(async ({ write }) => {
          await write();
          return value();
        });
        const first = await post(path, label);
        const retries = [await post(path, label), await post(path, label)];
        expect(await effectOf(label)).toEqual({ effects: 1, runs: 1 });
        const record = await app.record(label);
        expect(record).toMatchObject({ status: 'completed', response_body: null });
        const keyHash = record.key_hash.toString('hex');
        expect(seen.filter((event) => event.type === 'completed' && event.keyHash === keyHash)).toMatchObject(
          [{ tombstone: true }],
        );
        const alone = await post('plain', label);
        expect({ status: first.status, ...(content(first) as object) }).toEqual({
          status: alone.status,
          ...(content(alone) as object),
        });
        for (const retry of retries) {
          expect(retry.status).toBe(500);
          expect(retry.json()).toMatchObject({ code: 'IDEMPOTENCY_RESPONSE_NOT_STORED' });
        }
      },
    );

    it('are no results of exactly the limit', async () => {
      const label = play(() => 'x'.repeat(LIMIT));
      const first = await post('small', label);
      const replay = await post('small', label);
      expect(replay.status).toBe(200);
      expect(replay.body.equals(first.body)).toBe(true);
    });

    it('are refused to another payload as any other', async () => {
      const label = play(() => ({ n: 1n }));
      await post('idempotent', label);
      const other = await app.post(`idempotent/${label}`, { key: label, body: { label: 'another' } });
      expect(app.stage.runs(label)).toBe(1);
      expect(other.status).toBe(422);
    });
  });

  it('that fail while they are read are no results: rolled back, and the retry runs', async () => {
    const label = play(async ({ write, run }) => {
      await write();
      return new StreamableFile(
        Readable.from(
          (function* () {
            yield Buffer.from('half');
            if (run === 1) throw new Error('the disk is gone');
          })(),
          { objectMode: false },
        ),
      );
    });
    const first = await post('idempotent', label);
    expect(await app.effects(label)).toBe(0);
    expect(first.status).toBe(500);
    const retry = await post('idempotent', label);
    expect(await app.effects(label)).toBe(1);
    expect({ status: retry.status, text: retry.text }).toEqual({ status: 201, text: 'half' });
  });
});

function circle(): object {
  const self: Record<string, unknown> = {};
  self['self'] = self;
  return self;
}

class Account {
  readonly name: string;
  @Exclude() readonly password: string;
  constructor(name: string, password: string) {
    this.name = name;
    this.password = password;
  }
  @Expose() get initial(): string {
    return this.name.slice(0, 1);
  }
}

const account = (): Account => new Account('alice', 'correct horse');

@Controller('accounts')
class AccountsController {
  @Post()
  @Idempotent()
  open(): Account {
    return account();
  }
  @Get()
  show(): Account {
    return account();
  }
  @Post('many')
  @Idempotent()
  openMany(): Account[] {
    return [account(), account()];
  }
}

@Controller('own-accounts')
@UseInterceptors(ClassSerializerInterceptor)
class OwnAccountsController {
  @Post()
  @Idempotent()
  @SerializeOptions({ strategy: 'exposeAll' })
  open(): Account {
    return account();
  }
}

/** Wraps every answer, and must be found around the replayed one exactly once. */
const envelope: NestInterceptor = {
  intercept: (_, next) => next.handle().pipe(map((data: unknown) => ({ data }))),
};

const useGlobal = (app: INestApplication): void => {
  app.useGlobalInterceptors(new ClassSerializerInterceptor(app.get(Reflector)), envelope);
};

describe.each(PLATFORMS)('serializers on %s', (platform) => {
  const WAYS: readonly {
    name: string;
    path: string;
    options: Parameters<typeof openStage>[0];
    controllers: Type[];
  }[] = [
    {
      name: 'app.useGlobalInterceptors()',
      path: 'accounts',
      options: { prepare: useGlobal },
      controllers: [AccountsController],
    },
    {
      name: 'APP_INTERCEPTOR',
      path: 'accounts',
      options: { providers: [{ provide: APP_INTERCEPTOR, useClass: ClassSerializerInterceptor }] },
      controllers: [AccountsController],
    },
    {
      name: 'both',
      path: 'accounts',
      options: {
        providers: [{ provide: APP_INTERCEPTOR, useClass: ClassSerializerInterceptor }],
        prepare: useGlobal,
      },
      controllers: [AccountsController],
    },
    {
      name: 'the controller',
      path: 'own-accounts',
      options: {},
      controllers: [OwnAccountsController],
    },
  ];

  it.each(WAYS)('never let an @Exclude() field out, first or replayed: $name', async (way) => {
    const app = await openStage({ platform, ...way.options, controllers: way.controllers });
    try {
      const paths = way.path === 'accounts' ? ['accounts', 'accounts/many'] : [way.path];
      for (const path of paths) {
        const key = randomUUID();
        const first = await app.post(path, { key, body: {} });
        const replay = await app.post(path, { key, body: {} });
        const stored = (await app.record(key)).response_body?.toString();
        for (const text of [first.text, replay.text, stored]) {
          expect(text).toContain('"initial":"a"');
          expect(text).not.toContain('correct horse');
        }
        expect([first.status, replay.status]).toEqual([201, 200]);
        expect(replay.body.equals(first.body)).toBe(true);
        if (way.options.prepare) expect(Object.keys(replay.json())).toEqual(['data']);
      }
    } finally {
      await app.close();
    }
  });
});
