import 'reflect-metadata';
import {
  BadRequestException,
  type CallHandler,
  Catch,
  type ArgumentsHost,
  type ExceptionFilter,
  ConflictException,
  Controller,
  type ExecutionContext,
  Header,
  HttpException,
  Injectable,
  type INestApplication,
  Module,
  type NestInterceptor,
  NotFoundException,
  Post,
  Res,
  UseFilters,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { lastValueFrom, type Observable, of } from 'rxjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { StoredResponse } from '../store/record.js';
import type { PlatformResponse } from './platform.js';
import { captureError, reviveError, revivedException } from './stored-error.js';

class OutOfStock extends HttpException {
  constructor(readonly left: number) {
    super({ reason: 'out-of-stock', left, emoji: '🛒', nul: '\u0000' }, 409);
  }
}

@Catch(NotFoundException)
class NotFoundFilter implements ExceptionFilter<NotFoundException> {
  catch(exception: NotFoundException, host: ArgumentsHost): void {
    const response = host
      .switchToHttp()
      .getResponse<{ status(code: number): { send(body: string): void } }>();
    response.status(404).send(`custom ${exception.name}: ${exception.message}`);
  }
}

@Controller()
class Errors {
  @Post('bad-request') badRequest(): never {
    throw new BadRequestException('wrong');
  }
  @Post('messages') messages(): never {
    throw new BadRequestException(['one', 'two'], 'Described');
  }
  @Post('string') string(): never {
    throw new HttpException('just text', 402);
  }
  @Post('error-code') errorCode(): never {
    throw new HttpException('with code', 409, { errorCode: 'E1' });
  }
  @Post('own-class') ownClass(): never {
    throw new OutOfStock(3);
  }
  @Post('array-body') arrayBody(): never {
    throw new HttpException([1, 2], 422);
  }
  @Post('error-body') errorBody(): never {
    throw new HttpException(new Error('secret'), 409);
  }
  @Post('typed') @Header('Content-Type', 'text/csv') typed(): never {
    throw new ConflictException('typed');
  }
  @Post('typed-own') @Header('Content-Type', 'text/csv') typedOwn(): never {
    throw new OutOfStock(1);
  }
  @Post('header') header(
    @Res({ passthrough: true }) response: { header(n: string, v: string): unknown },
  ): never {
    response.header('Location', '/existing/1');
    response.header('Set-Cookie', 'a=1');
    throw new ConflictException('exists');
  }
  @Post('filtered') @UseFilters(NotFoundFilter) filtered(): never {
    throw new NotFoundException('gone fishing');
  }
}

const stored = new Map<string, StoredResponse>();

@Injectable()
class Capturing implements NestInterceptor {
  async intercept(context: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    const { url, headers } = context
      .switchToHttp()
      .getRequest<{ url: string; headers: Record<string, string> }>();
    const response = context.switchToHttp().getResponse<PlatformResponse>();
    const first = stored.get(url);
    if (headers['x-replay'] !== undefined && first) throw reviveError(response, first);
    try {
      return of(await lastValueFrom(next.handle()));
    } catch (error) {
      const captured = captureError(error as HttpException, response, {
        replayHeaders: ['Location', 'Set-Cookie'],
      });
      if (captured) stored.set(url, captured);
      throw error;
    }
  }
}

@Module({ controllers: [Errors] })
class ErrorsModule {}

describe.each(['express', 'fastify'] as const)('errors on %s', (platform) => {
  let app: INestApplication;
  beforeAll(async () => {
    stored.clear();
    const adapter = platform === 'express' ? new ExpressAdapter() : new FastifyAdapter();
    app = await NestFactory.create(ErrorsModule, adapter, { logger: false });
    app.useGlobalInterceptors(new Capturing());
    await app.listen(0, '127.0.0.1');
  });
  afterAll(() => app.close());

  async function call(
    path: string,
    headers: Record<string, string> = {},
  ): Promise<Response & { bytes: Buffer }> {
    const response = await fetch(`${await app.getUrl()}/${path}`, { method: 'POST', headers });
    return Object.assign(response, { bytes: Buffer.from(await response.arrayBuffer()) });
  }

  const PATHS = [
    'bad-request',
    'messages',
    'string',
    'error-code',
    'own-class',
    'array-body',
    'error-body',
    'typed',
    'typed-own',
  ];

  it.each([...PATHS, 'header'])('stores of %s the bytes that were sent, and replays them', async (path) => {
    const first = await call(path);
    const captured = stored.get(`/${path}`);
    const replayed = await call(path, { 'x-replay': 'yes' });
    expect(captured).toMatchObject({
      status: first.status,
      body: first.bytes,
      headers: { 'content-type': first.headers.get('content-type') },
    });
    expect(replayed.status).toBe(first.status);
    expect(replayed.bytes).toEqual(first.bytes);
    expect(replayed.headers.get('content-type')).toBe(first.headers.get('content-type'));
    expect(replayed.headers.get('idempotent-replayed')).toBe('true');
  });

  it('replays allow-listed headers and no cookie', async () => {
    await call('header');
    const replayed = await call('header', { 'x-replay': 'yes' });
    expect(replayed.headers.get('location')).toBe('/existing/1');
    expect(replayed.headers.get('set-cookie')).toBeNull();
  });

  it('replays through a filter made for a class of Nest', async () => {
    const first = await call('filtered');
    const replayed = await call('filtered', { 'x-replay': 'yes' });
    expect(first.bytes.toString()).toBe('custom NotFoundException: gone fishing');
    expect(replayed.bytes).toEqual(first.bytes);
    expect(replayed.headers.get('content-type')).toBe(first.headers.get('content-type'));
  });
});

describe('captureError', () => {
  const response: PlatformResponse = {
    statusCode: 201,
    getHeader: () => undefined,
    setHeader: () => undefined,
    removeHeader: () => undefined,
  };
  const options = { replayHeaders: [] };

  it.each([
    ['a BigInt', { n: 1n }],
    ['a circle', ((circle: Record<string, unknown>) => Object.assign(circle, { circle }))({})],
  ])('stores no body with %s', (_, body) => {
    expect(captureError(new HttpException(body, 409), response, options)).toBeUndefined();
  });

  it('lets Fastify choose the response schema by the status of the error, and sets none', () => {
    const raw = { statusCode: 201 };
    const reply: PlatformResponse = {
      statusCode: 201,
      raw,
      getHeader: () => undefined,
      header: () => undefined,
      serialize: () => `"for ${raw.statusCode}"`,
      serializer: () => undefined,
    };
    expect(captureError(new HttpException({}, 409), reply, options)?.body?.toString()).toBe('"for 409"');
    expect(raw.statusCode).toBe(201);
  });

  it('stores a body of exactly the limit and none larger', () => {
    const exception = new HttpException({ a: 1 }, 409);
    expect(captureError(exception, response, { ...options, maxBytes: 7 })?.body?.toString()).toBe('{"a":1}');
    expect(captureError(exception, response, { ...options, maxBytes: 6 })).toBeUndefined();
  });
});

describe('revivedException', () => {
  const revived = (status: number, body: string): HttpException =>
    revivedException({ status, headers: {}, body: Buffer.from(body) });

  it.each([
    400, 401, 403, 404, 405, 406, 408, 409, 410, 412, 413, 415, 418, 421, 422, 500, 501, 502, 503, 504, 505,
  ])('has the class of Nest for status %i', (status) => {
    const exception = revived(status, `{"statusCode":${status},"message":"m"}`);
    expect(exception.constructor).not.toBe(HttpException);
    expect(exception.getStatus()).toBe(status);
    expect(exception.message).toBe('m');
    expect(exception.getResponse()).toEqual({ statusCode: status, message: 'm' });
  });

  it('is a plain HttpException for a status of its own', () => {
    expect(revived(402, '{"message":"pay"}')).toMatchObject({ message: 'pay', name: 'HttpException' });
  });

  it('restores the error code', () => {
    expect(revived(409, '{"message":"m","errorCode":"E1"}').errorCode).toBe('E1');
  });

  it('answers text that is no JSON as the message', () => {
    expect(revived(409, 'plain').getResponse()).toBe('plain');
    expect(revivedException({ status: 409, headers: {}, body: null }).getStatus()).toBe(409);
  });
});
