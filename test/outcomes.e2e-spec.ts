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
  Injectable,
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
import { catchError, defer, from, lastValueFrom, type Observable, of, retry, timeout } from 'rxjs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { PLATFORMS } from './support/app.js';
import type { Answer } from './support/http.js';
import { openStage, type Script, scripted, Stage, type StagedApp } from './support/stage.js';
import { deferred, until } from './support/until.js';

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

/** A method that is a route of its own and is called by another one in process. */
@Controller('nested')
class NestedController {
  constructor(@Inject(Stage) private readonly stage: Stage) {}

  @Post('inner')
  @Idempotent()
  async inner(@Body() { label }: { label: string }): Promise<object> {
    await this.stage.ledger.save({ label, note: 'inner' });
    return { part: 'inner' };
  }

  @Post('outer')
  @Idempotent()
  async outer(@Body() body: { label: string; fail?: boolean }): Promise<object> {
    const inner = await this.inner(body);
    await this.stage.ledger.save({ label: body.label, note: 'outer' });
    if (body.fail) throw new ConflictException('after both');
    return { part: 'outer', inner };
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

class RetryInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(retry(2));
  }
}

/** Gives up on the handler, which goes on, and runs it again. */
class ImpatientInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(timeout({ first: 100 }), retry(1));
  }
}

/** Works in the transaction itself, and then runs the handler up to two times. */
@Injectable()
class WorkingInterceptor implements NestInterceptor {
  constructor(@Inject(Stage) private readonly stage: Stage) {}

  async intercept(context: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    const { originalUrl } = context.switchToHttp().getRequest<{ originalUrl: string }>();
    const [, path, label = ''] = originalUrl.split('/');
    const twice = (): Observable<unknown> => next.handle().pipe(retry(1));
    if (path === 'transactional') {
      return from(this.stage.dataSource.transaction(() => lastValueFrom(twice())));
    }
    await this.stage.ledger.insert({ label, note: 'by the interceptor' });
    return path === 'forgiving' ? twice().pipe(catchError(() => of({ forgiven: true }))) : twice();
  }
}

const problem = (answer: Answer): unknown => answer.json()['code'];
const outline = ({ status, text }: Answer): { status: number; text: string } => ({ status, text });

const SETUPS = PLATFORMS.flatMap((platform) => [true, false].map((pipeline) => ({ platform, pipeline })));

describe.each(SETUPS)('outcomes on $platform, pipeline: $pipeline', ({ platform, pipeline }) => {
  let app: StagedApp;

  beforeAll(async () => {
    app = await openStage({
      platform,
      pipeline,
      controllers: [
        OrdersController,
        NestedController,
        scripted('idempotent', Idempotent()),
        scripted('plain'),
        scripted('filtered', Idempotent(), UseFilters(NotFoundFilter)),
        scripted('guarded', Idempotent(), UseGuards(TokenGuard)),
        scripted('door', Idempotent(), UseInterceptors(DoorInterceptor)),
        scripted('retrying', Idempotent(), UseInterceptors(RetryInterceptor)),
        scripted('impatient', Idempotent(), UseInterceptors(ImpatientInterceptor)),
        scripted('writing', Idempotent(), UseInterceptors(WorkingInterceptor)),
        scripted('transactional', Idempotent(), UseInterceptors(WorkingInterceptor)),
        scripted('forgiving', Idempotent(), UseInterceptors(WorkingInterceptor)),
        scripted('no-conflicts', Idempotent({ storeIf: (status) => status !== 409 })),
        scripted('everything', Idempotent({ storeIf: () => true })),
        scripted('not-accepted', HttpCode(202), Idempotent({ storeIf: (status) => status !== 202 })),
        scripted(
          'undecided',
          Idempotent({
            storeIf: () => {
              throw new Error('storeIf itself');
            },
          }),
        ),
        scripted('short', Idempotent({ maxRuntime: '300ms' })),
        scripted('two-attempts', Idempotent({ maxAttempts: 2 })),
      ],
    });
    await app.rows(`CREATE TABLE locks (id int); INSERT INTO locks VALUES (1)`);
  });
  afterEach(() => app.quiet());
  afterAll(() => app.close());

  const play = (script: Script): string => {
    const label = randomUUID();
    app.stage.play(label, script);
    return label;
  };
  const post = (path: string, label: string, headers: Record<string, string> = {}): Promise<Answer> =>
    app.post(`${path}/${label}`, { key: label, headers, body: { label } });

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
      expect([other.status, problem(other)]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED']);
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

  describe('handlers', () => {
    it('takes the last value of an Observable', async () => {
      const label = play(({ write }) =>
        defer(async () => {
          await write();
          return { by: 'observable' };
        }),
      );
      const first = await post('idempotent', label);
      const replay = await post('idempotent', label);
      expect(await app.effects(label)).toBe(1);
      expect(outline(first)).toEqual({ status: 201, text: '{"by":"observable"}' });
      expect(outline(replay)).toEqual({ status: 200, text: '{"by":"observable"}' });
    });

    it.each(['async', 'observable'] as const)(
      'finishes and commits an %s handler whose client has gone',
      async (kind) => {
        const [entered, gate] = [deferred(), deferred()];
        const label = play(({ write, ledger }) => {
          const work = async (): Promise<object> => {
            await write('before');
            entered.resolve();
            await gate.promise;
            await ledger.save({ label, note: 'after' });
            return { done: true };
          };
          return kind === 'async' ? work() : defer(work);
        });
        const server = app.app.getHttpServer() as http.Server;
        const open = (): Promise<number> =>
          new Promise((resolve, reject) =>
            server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
          );
        const before = await open();
        const request = http.request(`${app.url}/idempotent/${label}`, {
          method: 'POST',
          agent: false,
          headers: { 'idempotency-key': label, 'content-type': 'application/json' },
        });
        request.on('error', () => undefined);
        request.end(JSON.stringify({ label }));
        await entered.promise;
        request.destroy();
        await until('the server sees the client go', async () => (await open()) <= before);
        gate.resolve();
        await until('the record completed', async () => (await app.record(label)).status === 'completed');
        const retried = await post('idempotent', label);
        expect(await app.notes(label)).toEqual(['before', 'after']);
        expect(app.stage.runs(label)).toBe(1);
        expect(outline(retried)).toEqual({ status: 200, text: '{"done":true}' });
        expect(retried.headers['idempotent-replayed']).toBe('true');
      },
    );

    it('runs a decorated method called in process as a part of the attempt', async () => {
      const label = randomUUID();
      const send = (fail = false): Promise<Answer> =>
        app.post('nested/outer', { key: label, body: { label, fail } });
      const first = await send();
      const replay = await send();
      expect(await app.notes(label)).toEqual(['inner', 'outer']);
      expect(await app.records(label)).toHaveLength(1);
      expect(first.json()).toEqual({ part: 'outer', inner: { part: 'inner' } });
      expect(replay.body).toEqual(first.body);
    });

    it('rolls back both when the outer of two decorated methods throws', async () => {
      const label = randomUUID();
      const send = (): Promise<Answer> =>
        app.post('nested/outer', { key: label, body: { label, fail: true } });
      const answers = [await send(), await send()];
      expect(await app.effects(label)).toBe(0);
      expect(answers.map(({ status }) => status)).toEqual([409, 409]);
    });

    it('has its effect once when an inner interceptor runs the handler again', async () => {
      const label = play(async ({ write, run }) => {
        await write(`run ${run}`);
        if (run < 3) throw new Error(`run ${run}`);
        return { run };
      });
      const first = await post('retrying', label);
      const replay = await post('retrying', label);
      expect(await app.notes(label)).toEqual(['run 3']);
      expect(outline(first)).toEqual({ status: 201, text: '{"run":3}' });
      expect(outline(replay)).toEqual({ status: 200, text: '{"run":3}' });
      expect((await app.record(label)).attempt).toBe(1);
    });

    it('has its effect once when an inner interceptor runs an Observable again', async () => {
      const label = play(({ write, run, attempt, ledger }) =>
        defer(async () => {
          await write(`run ${run}`);
          await attempt.manager.transaction((manager) => manager.insert('ledger', { label, note: 'nested' }));
          if (run < 3) throw new Error(`run ${run}`);
          return { kept: await ledger.countBy({ label }) };
        }),
      );
      const first = await post('retrying', label);
      expect(await app.notes(label)).toEqual(['run 3', 'nested']);
      expect(outline(first)).toEqual({ status: 201, text: '{"kept":2}' });
    });

    it('lets an inner interceptor run the handler again after a failed statement', async () => {
      const label = play(async ({ write, run, dataSource }) => {
        await write(`run ${run}`);
        if (run === 1) await dataSource.query('SELECT 1 / 0');
        return { run };
      });
      const first = await post('retrying', label);
      expect(await app.notes(label)).toEqual(['run 2']);
      expect(outline(first)).toEqual({ status: 201, text: '{"run":2}' });
    });

    it('keeps nothing of a handler that fails as often as an inner interceptor runs it', async () => {
      const label = play(async ({ write, run }) => {
        await write(`run ${run}`);
        throw new ConflictException(`run ${run}`);
      });
      const first = await post('retrying', label);
      const replay = await post('retrying', label);
      expect(await app.effects(label)).toBe(0);
      expect(app.stage.runs(label)).toBe(3);
      expect([first.status, replay.status, replay.text]).toEqual([409, 409, first.text]);
      expect(first.json()).toMatchObject({ message: 'run 3' });
    });

    it('shuts out a run that is still going on when an inner interceptor has begun another', async () => {
      const second = deferred();
      const late = deferred<unknown>();
      const label = play(async ({ write, run, ledger }) => {
        await write(`run ${run}`);
        if (run === 1) {
          await second.promise;
          await ledger.insert({ label, note: 'late' }).then(late.resolve, late.resolve);
          throw new Error('nobody listens any more');
        }
        second.resolve();
        await late.promise;
        return { run };
      });
      const first = await post('impatient', label);
      expect(await app.notes(label)).toEqual(['run 2']);
      expect(outline(first)).toEqual({ status: 201, text: '{"run":2}' });
      expect(await late.promise).toMatchObject({
        name: 'AttemptSettledError',
        message: expect.stringContaining('an interceptor had run the handler again') as string,
      });
    });

    it.each(['writing', 'transactional', 'forgiving'])(
      'commits nothing when a /%s interceptor had worked in the transaction before it runs the handler again',
      async (path) => {
        const label = play(async ({ write, run }) => {
          await write(`run ${run}`);
          if (run === 1) throw new Error('once');
          return { run };
        });
        const failed = await post(path, label);
        expect(await app.effects(label)).toBe(0);
        expect(app.stage.runs(label)).toBe(1);
        expect(failed.status).toBe(500);
        expect((await app.record(label)).last_error).toMatch(/^RepeatedHandlerError: An interceptor ran/);
        const retried = await post(path, label);
        expect(await app.notes(label)).toEqual(
          path === 'transactional' ? ['run 2'] : ['by the interceptor', 'run 2'],
        );
        expect(retried.status).toBe(201);
      },
    );
  });

  describe('conflicts with other transactions', () => {
    it.each(['40001', '40P01', '55P03'])('answers 503 to SQLSTATE %s', async (state) => {
      const label = play(async ({ write, run, dataSource }) => {
        await write();
        if (run === 1) {
          await dataSource.query(`DO $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '${state}'; END $$`);
        }
        return { run };
      });
      const failed = await post('idempotent', label);
      expect(await app.effects(label)).toBe(0);
      expect((await app.record(label)).status).toBe('error');
      expect([failed.status, problem(failed)]).toEqual([503, 'IDEMPOTENCY_TRANSACTION_CONFLICT']);
      expect(failed.headers['retry-after']).toBe('1');
      expect(failed.headers['content-type']).toContain('application/problem+json');
      expect(outline(await post('idempotent', label))).toEqual({ status: 201, text: '{"run":2}' });
      expect(await app.effects(label)).toBe(1);
    });

    it('answers 503 to a lock that somebody else holds (NOWAIT)', async () => {
      const label = play(async ({ write, dataSource }) => {
        await write();
        await dataSource.query('SELECT 1 FROM locks FOR UPDATE NOWAIT');
      });
      const runner = app.dataSource.createQueryRunner();
      await runner.startTransaction();
      await runner.query('SELECT 1 FROM locks FOR UPDATE');
      const failed = await post('idempotent', label);
      await runner.rollbackTransaction();
      await runner.release();
      expect(await app.effects(label)).toBe(0);
      expect([failed.status, problem(failed)]).toEqual([503, 'IDEMPOTENCY_TRANSACTION_CONFLICT']);
      expect((await post('idempotent', label)).status).toBe(201);
      expect(await app.effects(label)).toBe(1);
    });

    it('lets one of two deadlocked handlers through, and the other one when it is retried', async () => {
      const [a, b] = [randomUUID(), randomUUID()];
      await app.rows('INSERT INTO accounts VALUES ($1, 0), ($2, 0)', [a, b]);
      const arrived = { [a]: deferred(), [b]: deferred() };
      const transfer = (own: string, other: string): void =>
        app.stage.play(own, async ({ write, dataSource }) => {
          const raise = `UPDATE accounts SET balance = balance + 1 WHERE id = $1`;
          await write();
          await dataSource.query(raise, [own]);
          arrived[own]?.resolve();
          await arrived[other]?.promise;
          await dataSource.query(raise, [other]);
        });
      transfer(a, b);
      transfer(b, a);
      const labels = [a, b];
      const answers = await Promise.all(labels.map((label) => post('idempotent', label)));
      expect(await app.effects(a)).toBe(answers[0]?.status === 201 ? 1 : 0);
      expect(await app.effects(b)).toBe(answers[1]?.status === 201 ? 1 : 0);
      const statuses = answers.map(({ status }) => status);
      expect(statuses.toSorted((x, y) => x - y)).toEqual([201, 503]);
      const victim = statuses.indexOf(503);
      const lost = answers[victim];
      expect(lost && problem(lost)).toBe('IDEMPOTENCY_TRANSACTION_CONFLICT');
      expect(lost?.headers['retry-after']).toBe('1');

      const retried = await Promise.all(labels.map((label) => post('idempotent', label)));
      expect(retried.map(({ status }) => status)).toEqual(
        statuses.map((status) => (status === 503 ? 201 : 200)),
      );
      expect([await app.effects(a), await app.effects(b)]).toEqual([1, 1]);
      expect(await app.rows('SELECT balance FROM accounts WHERE id IN ($1, $2)', [a, b])).toEqual([
        { balance: 2 },
        { balance: 2 },
      ]);
    });
  });

  describe('attempts that die', () => {
    it('takes the transaction from a handler over maxRuntime and frees the key at once', async () => {
      const gate = deferred();
      let late: Promise<unknown> = Promise.resolve();
      const label = play(async ({ write, run, ledger }) => {
        await write(`run ${run}`);
        if (run > 1) return { run };
        late = gate.promise.then(() => ledger.save({ label, note: 'late' }));
        return late;
      });
      const overdue = await post('short', label);
      expect(await app.effects(label)).toBe(0);
      expect([overdue.status, problem(overdue)]).toEqual([503, 'IDEMPOTENCY_ATTEMPT_LOST']);
      expect(overdue.headers['retry-after']).toBe('1');

      const retried = await post('short', label);
      expect(await app.notes(label)).toEqual(['run 2']);
      expect(outline(retried)).toEqual({ status: 201, text: '{"run":2}' });

      gate.resolve();
      await expect(late).rejects.toThrow('after its attempt had settled');
      expect(await app.notes(label)).toEqual(['run 2']);
      expect(outline(await post('short', label))).toEqual({ status: 200, text: '{"run":2}' });
    });

    it('answers 503 over maxRuntime also when the handler is stuck in a statement', async () => {
      const label = play(async ({ write, run, dataSource }) => {
        await write(`run ${run}`);
        if (run === 1) await dataSource.query('SELECT pg_sleep(20)');
        return { run };
      });
      const overdue = await post('short', label);
      expect([overdue.status, problem(overdue)]).toEqual([503, 'IDEMPOTENCY_ATTEMPT_LOST']);
      const retried = await until('the key free', async () => {
        const answer = await post('short', label);
        return answer.status === 409 ? undefined : answer;
      });
      expect(await app.notes(label)).toEqual(['run 2']);
      expect(outline(retried)).toEqual({ status: 201, text: '{"run":2}' });
    });

    /** Ends the handler's own backend, as an administrator or a failover would. */
    const die: Script = async ({ write, attempt }) => {
      await write();
      await attempt.manager.query('SELECT pg_terminate_backend(pg_backend_pid())');
    };

    it('answers 503 to a terminated backend, has no effect, and runs again', async () => {
      const label = play((scene) => (scene.run === 1 ? die(scene) : scene.write()));
      const lost = await post('idempotent', label);
      expect(await app.effects(label)).toBe(0);
      expect([lost.status, problem(lost)]).toEqual([503, 'IDEMPOTENCY_ATTEMPT_LOST']);
      expect(lost.headers['retry-after']).toBe('1');
      expect((await post('idempotent', label)).status).toBe(201);
      expect(await app.effects(label)).toBe(1);
      expect((await app.record(label)).attempt).toBe(2);
    });

    /**
     * Lets the handler die while nobody can give its record back: as far as the record tells, its process died too.
     * A lock queued behind the attempt's own gets the row first.
     */
    const abandon = async (label: string): Promise<Answer> => {
      const [entered, gate] = [deferred(), deferred()];
      app.stage.play(label, async (scene) => {
        entered.resolve();
        await gate.promise;
        return die(scene);
      });
      const answer = post('two-attempts', label);
      await entered.promise;
      const runner = app.dataSource.createQueryRunner();
      await runner.startTransaction();
      const queued = runner.query('SELECT 1 FROM idempotency_keys WHERE key = $1 FOR SHARE', [label]);
      await until('the lock queued', async () => {
        const waiting = await app.rows(
          `SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`,
        );
        return waiting.length > 0;
      });
      gate.resolve();
      await queued;
      const answered = await answer;
      await runner.rollbackTransaction();
      await runner.release();
      return answered;
    };

    it('does not run again what died maxAttempts times in a row', async () => {
      const label = randomUUID();
      const lost = [await abandon(label), await abandon(label)];
      app.stage.play(label, ({ write }) => write());
      const refused = [await post('two-attempts', label), await post('two-attempts', label)];
      expect(await app.effects(label)).toBe(0);
      expect(app.stage.runs(label)).toBe(2);
      expect(lost.map(problem)).toEqual(['IDEMPOTENCY_ATTEMPT_LOST', 'IDEMPOTENCY_ATTEMPT_LOST']);
      for (const answer of refused) {
        expect([answer.status, problem(answer)]).toEqual([500, 'IDEMPOTENCY_ATTEMPTS_EXHAUSTED']);
        expect(answer.headers['retry-after']).toBeUndefined();
      }
    });

    it('does not count errors that the handler throws', async () => {
      const label = play(async ({ write, run }) => {
        await write();
        if (run <= 4) throw new Error(`run ${run}`);
      });
      const statuses: number[] = [];
      for (let n = 0; n < 5; n++) statuses.push((await post('two-attempts', label)).status);
      expect(statuses).toEqual([500, 500, 500, 500, 201]);
      expect(await app.effects(label)).toBe(1);
      expect((await app.record(label)).attempt).toBe(5);
    });

    it('counts only attempts that die in a row', async () => {
      const label = randomUUID();
      await abandon(label);
      app.stage.play(label, () => {
        throw new Error('thrown');
      });
      expect((await post('two-attempts', label)).status).toBe(500);
      await abandon(label);
      app.stage.play(label, ({ write }) => write());
      expect((await post('two-attempts', label)).status).toBe(201);
      expect(await app.effects(label)).toBe(1);
    });
  });

  describe('records', () => {
    const expire = (label: string): Promise<unknown> =>
      app.rows(
        `UPDATE idempotency_keys SET expires_at = clock_timestamp() - interval '1 second' WHERE key = $1`,
        [label],
      );

    it.each(['completed', 'pending', 'error'])(
      'never runs a %s record of an unknown format',
      async (status) => {
        const label = play(({ write }) => write());
        await post('idempotent', label);
        await app.rows(
          `UPDATE idempotency_keys SET format = 2, status = $2,
           response_status = CASE WHEN $2 = 'completed' THEN response_status END WHERE key = $1`,
          [label, status],
        );
        const refused = await post('idempotent', label);
        await expire(label);
        const expired = await post('idempotent', label);
        expect(await app.effects(label)).toBe(1);
        expect(app.stage.runs(label)).toBe(1);
        for (const answer of [refused, expired]) {
          expect([answer.status, problem(answer)]).toEqual([500, 'IDEMPOTENCY_RECORD_UNREADABLE']);
        }
      },
    );

    it('runs again what has expired, with a greater number and another payload', async () => {
      const label = play(async ({ write, attempt }) => {
        await write();
        return { number: attempt.number };
      });
      const send = (body: object): Promise<Answer> => app.post(`idempotent/${label}`, { key: label, body });
      await send({ amount: 1 });
      await expire(label);
      const again = await send({ amount: 1 });
      await expire(label);
      const other = await send({ amount: 2 });
      const replay = await send({ amount: 2 });
      const former = await send({ amount: 1 });
      expect(await app.effects(label)).toBe(3);
      expect([again, other].map(outline)).toEqual([
        { status: 201, text: '{"number":2}' },
        { status: 201, text: '{"number":3}' },
      ]);
      expect(outline(replay)).toEqual({ status: 200, text: '{"number":3}' });
      expect([former.status, problem(former)]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED']);
    });

    it('runs an expired stored error again', async () => {
      const label = play(async ({ write, run }) => {
        await write();
        if (run === 1) throw new ConflictException();
      });
      await post('idempotent', label);
      await expire(label);
      expect((await post('idempotent', label)).status).toBe(201);
      expect(await app.effects(label)).toBe(1);
    });
  });
});
