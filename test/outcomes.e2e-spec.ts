import { randomUUID } from 'node:crypto';
import http from 'node:http';
import {
  type ArgumentsHost,
  BadRequestException,
  Body,
  type CallHandler,
  type CanActivate,
  Catch,
  ConflictException,
  Controller,
  type ExceptionFilter,
  type ExecutionContext,
  ForbiddenException,
  HttpCode,
  HttpException,
  Inject,
  type NestInterceptor,
  NotFoundException,
  Post,
  ServiceUnavailableException,
  UnauthorizedException,
  UseFilters,
  UseGuards,
  UseInterceptors,
  ValidationPipe,
} from '@nestjs/common';
import { IsInt, Max, Min } from 'class-validator';
import { Idempotent } from 'nestjs-pg-idempotency';
import { type Observable } from 'rxjs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { SETUPS } from './support/app.js';
import type { Answer } from './support/http.js';
import {
  openStage,
  outline,
  problemCode,
  type Script,
  scripted,
  Stage,
  type StagedApp,
} from './support/stage.js';

class Order {
  @IsInt()
  @Min(1)
  @Max(999)
  quantity: number;
}

@Controller('orders')
class OrdersController {
  constructor(@Inject(Stage) private readonly stage: Stage) {}

  @Post()
  @Idempotent()
  async order(@Body(new ValidationPipe({ expectedType: Order })) { quantity }: Order): Promise<object> {
    await this.stage.ledger.save({ label: `order of ${quantity}`, note: 'ordered' });
    return { quantity };
  }
}

@Catch(NotFoundException)
class NotFoundFilter implements ExceptionFilter<NotFoundException> {
  catch(exception: NotFoundException, host: ArgumentsHost): void {
    const response = host
      .switchToHttp()
      .getResponse<{ status(code: number): { send(body: object): void } }>();
    response.status(exception.getStatus()).send({ missing: exception.message, by: 'the filter' });
  }
}

let guarded = 0;
class TokenGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    guarded++;
    const { headers } = context.switchToHttp().getRequest<http.IncomingMessage>();
    if (headers['x-token'] === undefined) throw new UnauthorizedException();
    if (headers['x-token'] === 'slow down') throw new HttpException('Too many requests', 429);
    return headers['x-token'] === 'good';
  }
}

/** Refuses before the handler begins. */
class DoorInterceptor implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const { headers } = context.switchToHttp().getRequest<http.IncomingMessage>();
    if (headers['x-door'] === 'closed') throw new ConflictException('the door is closed');
    return next.handle();
  }
}

const undecided = (): boolean => {
  throw new Error('storeIf itself');
};

describe.each(SETUPS)('outcomes on $platform, pipeline: $pipeline', (setup) => {
  let app: StagedApp;

  beforeAll(async () => {
    app = await openStage({
      ...setup,
      controllers: [
        OrdersController,
        scripted('idempotent', Idempotent()),
        scripted('plain'),
        scripted('filtered', Idempotent(), UseFilters(NotFoundFilter)),
        scripted('guarded', Idempotent(), UseGuards(TokenGuard)),
        scripted('door', Idempotent(), UseInterceptors(DoorInterceptor)),
        scripted('no-conflicts', Idempotent({ storeIf: (status) => status !== 409 })),
        scripted('everything', Idempotent({ storeIf: () => true })),
        scripted('not-accepted', HttpCode(202), Idempotent({ storeIf: (status) => status !== 202 })),
        scripted('undecided', Idempotent({ storeIf: undecided })),
      ],
    });
  });
  afterEach(() => app.quiet());
  afterAll(() => app.close());

  const play = (script: Script): string => app.play(script);
  const post = (path: string, label: string, headers: Record<string, string> = {}): Promise<Answer> =>
    app.postTo(path, label, headers);

  describe('failures before the handler', () => {
    it('leaves no record of a validation error, and the key works with a corrected body', async () => {
      const key = randomUUID();
      const quantity = Number.parseInt(key.slice(0, 2), 16) + 1;
      const label = `order of ${quantity}`;
      const before = await app.effects(label);
      const invalid = await app.post('orders', { key, body: { quantity: -1 } });
      expect(await app.records(key)).toEqual([]);
      expect(await app.effects(label)).toBe(before);
      expect(invalid.status).toBe(400);

      const corrected = await app.post('orders', { key, body: { quantity } });
      const replay = await app.post('orders', { key, body: { quantity } });
      expect(await app.effects(label)).toBe(before + 1);
      expect((await app.record(key)).attempt).toBe(1);
      expect([corrected.status, replay.status]).toEqual([201, 200]);
      expect(replay.body).toEqual(corrected.body);
    });

    it('leaves no record of what a guard refuses', async () => {
      const label = play(({ write }) => write());
      const refused = [
        await post('guarded', label),
        await post('guarded', label, { 'x-token': 'bad' }),
        await post('guarded', label, { 'x-token': 'slow down' }),
      ];
      expect(await app.records(label)).toEqual([]);
      expect(app.stage.runs(label)).toBe(0);
      expect(refused.map(({ status }) => status)).toEqual([401, 403, 429]);
    });

    it('runs guards on replays too, and shows a refused caller nothing', async () => {
      const label = play(async ({ write }) => {
        await write();
        return { secret: label };
      });
      const before = guarded;
      const first = await post('guarded', label, { 'x-token': 'good' });
      const replay = await post('guarded', label, { 'x-token': 'good' });
      const refused = [await post('guarded', label), await post('guarded', label, { 'x-token': 'bad' })];
      expect(await app.effects(label)).toBe(1);
      expect(guarded - before).toBe(4);
      expect([first.status, replay.status]).toEqual([201, 200]);
      expect(refused.map(({ status }) => status)).toEqual([401, 403]);
      for (const { text, headers } of refused) {
        expect(text).not.toContain(label);
        expect(headers['idempotent-replayed']).toBeUndefined();
      }
    });

    it('leaves no record of what an inner interceptor refuses', async () => {
      const label = play(({ write }) => write());
      const refused = await post('door', label, { 'x-door': 'closed' });
      expect(await app.records(label)).toEqual([]);
      expect(refused.status).toBe(409);
      expect((await post('door', label)).status).toBe(201);
      expect(await app.effects(label)).toBe(1);
    });

    it('keeps the count of attempts when a later one fails before its handler', async () => {
      const label = play(async ({ write, run }) => {
        await write();
        if (run === 1) throw new Error('first');
      });
      await post('door', label);
      expect((await post('door', label, { 'x-door': 'closed' })).status).toBe(409);
      expect(await app.record(label)).toMatchObject({ status: 'error', response_status: null, attempt: 2 });
      expect((await post('door', label)).status).toBe(201);
      expect(await app.record(label)).toMatchObject({ status: 'completed', attempt: 3 });
      expect(await app.effects(label)).toBe(1);
    });
  });

  describe('errors the handler decided on', () => {
    const ERRORS: readonly { name: string; path: string; error: () => HttpException; status: number }[] = [
      { name: 'a text', path: 'idempotent', error: () => new NotFoundException('no such cart'), status: 404 },
      { name: 'no text', path: 'idempotent', error: () => new ForbiddenException(), status: 403 },
      {
        name: 'an object',
        path: 'idempotent',
        error: () => new ConflictException({ reason: 'full', left: [1, 2], text: '\u0000 é 🛒' }),
        status: 409,
      },
      {
        name: 'a status without a class of its own',
        path: 'idempotent',
        error: () => new HttpException({ tries: 3 }, 429),
        status: 429,
      },
      {
        name: 'an error code',
        path: 'idempotent',
        error: () => new BadRequestException('bad', { errorCode: 'E_BAD' }),
        status: 400,
      },
      {
        name: 'a class that a filter answers',
        path: 'filtered',
        error: () => new NotFoundException('no such cart'),
        status: 404,
      },
    ];

    it.each(ERRORS)('rolls back and replays an HttpException with $name', async ({ path, error, status }) => {
      const label = play(async ({ write }) => {
        await write();
        throw error();
      });
      const first = await post(path, label);
      expect(await app.effects(label)).toBe(0);
      const replays = [await post(path, label), await post(path, label)];
      expect(await app.effects(label)).toBe(0);
      expect(app.stage.runs(label)).toBe(1);
      expect(await app.record(label)).toMatchObject({ status: 'error', attempt: 1, response_status: status });
      expect(first.status).toBe(status);
      expect(first.headers['idempotent-replayed']).toBe('false');
      for (const replay of replays) {
        expect(outline(replay)).toEqual(outline(first));
        expect(replay.body).toEqual(first.body);
        expect(replay.headers['content-type']).toBe(first.headers['content-type']);
        expect(replay.headers['idempotent-replayed']).toBe('true');
      }
    });

    it('answers the first such error as an undecorated route does', async () => {
      const label = play(() => {
        throw new ConflictException({ reason: 'full' });
      });
      expect(outline(await post('idempotent', label))).toEqual(outline(await post('plain', label)));
    });

    it('stores one even when a statement of the handler had failed before', async () => {
      const label = play(async ({ write, dataSource }) => {
        await write();
        await dataSource.query('SELECT 1 / 0').catch(() => undefined);
        throw new ConflictException('after a failed statement');
      });
      const first = await post('idempotent', label);
      const replay = await post('idempotent', label);
      expect(await app.effects(label)).toBe(0);
      expect(app.stage.runs(label)).toBe(1);
      expect([first.status, replay.status]).toEqual([409, 409]);
      expect(replay.body).toEqual(first.body);
    });

    it('refuses the key of a stored error for another payload', async () => {
      const label = play(() => {
        throw new ConflictException();
      });
      await post('idempotent', label);
      const other = await app.post(`idempotent/${label}`, { key: label, body: { label, more: true } });
      expect(app.stage.runs(label)).toBe(1);
      expect([other.status, problemCode(other)]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED']);
    });
  });

  describe('errors the handler did not decide on', () => {
    it.each([
      {
        name: 'a plain Error',
        error: new Error('after the write'),
        status: 500,
        noted: 'Error: after the write',
      },
      {
        name: 'a 503',
        error: new ServiceUnavailableException('later'),
        status: 503,
        noted: 'ServiceUnavailableException: later',
      },
      { name: 'something that is no Error', error: 'just text', status: 500, noted: 'just text' },
      { name: 'undefined', error: undefined, status: 500, noted: 'undefined' },
      { name: 'an error with a NUL', error: new Error('a\u0000b'), status: 500, noted: 'Error: ab' },
    ])('leaves no effect after $name, and the retry succeeds', async ({ error, status, noted }) => {
      const label = play(async ({ write, run, attempt }) => {
        await write();
        if (run === 1) throw error;
        return { number: attempt.number };
      });
      const failed = await post('idempotent', label);
      expect(await app.effects(label)).toBe(0);
      expect(await app.record(label)).toMatchObject({
        status: 'error',
        response_status: null,
        response_body: null,
        last_error: noted,
        attempt: 1,
      });
      expect(failed.status).toBe(status);

      const retried = await post('idempotent', label);
      const replay = await post('idempotent', label);
      expect(await app.effects(label)).toBe(1);
      expect(await app.record(label)).toMatchObject({ status: 'completed', attempt: 2 });
      expect([retried.status, retried.text]).toEqual([201, '{"number":2}']);
      expect([replay.status, replay.text]).toEqual([200, '{"number":2}']);
    });

    it('rolls back and releases what the handler answers with a 5xx', async () => {
      const label = play(async ({ write, run, reply }) => {
        await write();
        if (run === 1) reply.status(503);
        return { run };
      });
      const failed = await post('idempotent', label);
      expect(await app.effects(label)).toBe(0);
      expect((await app.record(label)).status).toBe('error');
      expect([failed.status, failed.text]).toEqual([503, '{"run":1}']);
      expect(outline(await post('idempotent', label))).toEqual({ status: 201, text: '{"run":2}' });
      expect(await app.effects(label)).toBe(1);
    });

    it('commits nothing when a deferred constraint is violated at COMMIT', async () => {
      const label = play(async ({ write, run, dataSource }) => {
        await write();
        const slots = run === 1 ? `('${label}'), ('${label}')` : `('${label}')`;
        await dataSource.query(`INSERT INTO slots VALUES ${slots}`);
        return { run };
      });
      const failed = await post('idempotent', label);
      expect(await app.effects(label)).toBe(0);
      expect(await app.rows('SELECT 1 FROM slots WHERE label = $1', [label])).toEqual([]);
      expect(await app.record(label)).toMatchObject({ status: 'error', response_status: null });
      expect((await app.record(label)).last_error).toContain('slots_label');
      expect(failed.status).toBe(500);
      expect(failed.headers['idempotent-replayed']).toBeUndefined();
      expect(failed.text).not.toContain('slots_label');

      expect(outline(await post('idempotent', label))).toEqual({ status: 201, text: '{"run":2}' });
      expect(await app.effects(label)).toBe(1);
      expect(await app.rows('SELECT 1 FROM slots WHERE label = $1', [label])).toHaveLength(1);
    });

    it('commits nothing when the handler swallowed a failed statement, and says why', async () => {
      const label = play(async ({ write, run, dataSource }) => {
        await write();
        if (run === 1) await dataSource.query('SELECT 1 / 0').catch(() => undefined);
        return { run };
      });
      const failed = await post('idempotent', label);
      expect(await app.effects(label)).toBe(0);
      expect((await app.record(label)).last_error).toContain(
        'returned although one of its statements had failed',
      );
      expect(failed.status).toBe(500);
      expect(outline(await post('idempotent', label))).toEqual({ status: 201, text: '{"run":2}' });
      expect(await app.effects(label)).toBe(1);
    });

    it('gives the key back when storeIf itself throws', async () => {
      const label = play(({ write }) => write());
      const failed = await post('undecided', label);
      expect(await app.effects(label)).toBe(0);
      expect((await app.record(label)).status).toBe('error');
      expect((await app.record(label)).last_error).toContain('storeIf itself');
      expect(failed.status).toBe(500);
      await app.quiet();
    });
  });

  describe('storeIf', () => {
    it('releases an error that the default would store', async () => {
      const label = play(async ({ write, run }) => {
        await write();
        if (run === 1) throw new ConflictException('not yet');
        if (run === 2) throw new BadRequestException('never');
      });
      const answers = [
        await post('no-conflicts', label),
        await post('no-conflicts', label),
        await post('no-conflicts', label),
      ];
      expect(await app.effects(label)).toBe(0);
      expect(app.stage.runs(label)).toBe(2);
      expect(answers.map(({ status }) => status)).toEqual([409, 400, 400]);
      expect(answers.map(({ headers }) => headers['idempotent-replayed'])).toEqual([
        undefined,
        'false',
        'true',
      ]);
    });

    it('releases an answer that the default would store', async () => {
      const label = play(async ({ write, run }) => {
        await write();
        return { run };
      });
      const answers = [await post('not-accepted', label), await post('not-accepted', label)];
      expect(await app.effects(label)).toBe(0);
      expect(answers.map(outline)).toEqual([
        { status: 202, text: '{"run":1}' },
        { status: 202, text: '{"run":2}' },
      ]);
    });

    it.each([
      { name: 'a plain Error', error: new Error('its details'), status: 500 },
      { name: 'a 503', error: new ServiceUnavailableException({ reason: 'maintenance' }), status: 503 },
    ])('stores $name that the default would release', async ({ error, status }) => {
      const label = play(async ({ write }) => {
        await write();
        throw error;
      });
      const first = await post('everything', label);
      const replay = await post('everything', label);
      expect(await app.effects(label)).toBe(0);
      expect(app.stage.runs(label)).toBe(1);
      expect(first.status).toBe(status);
      expect(outline(replay)).toEqual(outline(first));
      expect(replay.headers['idempotent-replayed']).toBe('true');
      expect(first.text).not.toContain('its details');
    });

    it('stores an answer of 5xx with its effect', async () => {
      const label = play(async ({ write, reply }) => {
        await write();
        reply.status(507);
        return { full: true };
      });
      const first = await post('everything', label);
      const replay = await post('everything', label);
      expect(await app.effects(label)).toBe(1);
      expect(app.stage.runs(label)).toBe(1);
      expect(outline(first)).toEqual({ status: 507, text: '{"full":true}' });
      expect(outline(replay)).toEqual(outline(first));
    });
  });
});
