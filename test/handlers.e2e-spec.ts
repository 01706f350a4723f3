import { randomUUID } from 'node:crypto';
import http from 'node:http';
import {
  Body,
  type CallHandler,
  ConflictException,
  Controller,
  type ExecutionContext,
  Inject,
  Injectable,
  type NestInterceptor,
  Post,
  UseInterceptors,
} from '@nestjs/common';
import { Idempotent } from 'nestjs-pg-idempotency';
import {
  catchError,
  defer,
  from,
  lastValueFrom,
  mergeMap,
  type Observable,
  of,
  retry,
  throwError,
} from 'rxjs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { SETUPS } from './support/app.js';
import type { Answer } from './support/http.js';
import { ImpatientInterceptor } from './support/impatient.interceptor.js';
import { openStage, outline, type Script, scripted, Stage, type StagedApp } from './support/stage.js';
import { deferred, until } from './support/until.js';

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

class RetryInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(retry(2));
  }
}

/** Works in the transaction itself, and runs the handler up to two times. */
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
    const note = (): Promise<unknown> => this.stage.ledger.insert({ label, note: 'by the interceptor' });
    if (path === 'noting') {
      const noteFailure = (error: unknown): Observable<never> =>
        from(note()).pipe(mergeMap(() => throwError(() => error)));
      return next.handle().pipe(catchError(noteFailure), retry(1));
    }
    await note();
    return path === 'forgiving' ? twice().pipe(catchError(() => of({ forgiven: true }))) : twice();
  }
}

describe.each(SETUPS)('handlers on $platform, pipeline: $pipeline', (setup) => {
  let app: StagedApp;

  beforeAll(async () => {
    app = await openStage({
      ...setup,
      controllers: [
        NestedController,
        scripted('idempotent', Idempotent()),
        scripted('retrying', Idempotent(), UseInterceptors(RetryInterceptor)),
        scripted('impatient', Idempotent(), UseInterceptors(ImpatientInterceptor)),
        scripted('writing', Idempotent(), UseInterceptors(WorkingInterceptor)),
        scripted('transactional', Idempotent(), UseInterceptors(WorkingInterceptor)),
        scripted('noting', Idempotent(), UseInterceptors(WorkingInterceptor)),
        scripted('forgiving', Idempotent(), UseInterceptors(WorkingInterceptor)),
      ],
    });
  });
  afterEach(() => app.quiet());
  afterAll(() => app.close());

  const play = (script: Script): string => app.play(script);
  const post = (path: string, label: string, headers: Record<string, string> = {}): Promise<Answer> =>
    app.postTo(path, label, headers);

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
    const send = (): Promise<Answer> => app.post('nested/outer', { key: label, body: { label, fail: true } });
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

  it.each(['writing', 'transactional', 'noting', 'forgiving'])(
    'commits nothing when a /%s interceptor has worked in the transaction and runs the handler again',
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
        ['transactional', 'noting'].includes(path) ? ['run 2'] : ['by the interceptor', 'run 2'],
      );
      expect(retried.status).toBe(201);
    },
  );
});
