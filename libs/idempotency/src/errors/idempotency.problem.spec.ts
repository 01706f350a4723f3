import 'reflect-metadata';
import {
  type ArgumentsHost,
  Controller,
  Get,
  Header,
  HttpException,
  type INestApplication,
  Module,
  Post,
  Res,
} from '@nestjs/common';
import { APP_FILTER, HttpAdapterHost, NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { IDEMPOTENCY_STATUS, type IdempotencyErrorCode } from './idempotency-error-code.js';
import { IdempotencyProblemFilter } from '../http/idempotency-problem.filter.js';
import { IdempotencyProblem } from './idempotency.problem.js';

const docsUrl = 'https://docs.example/http-contract.md';
const inUse = (retryAfterSeconds?: number): IdempotencyProblem =>
  new IdempotencyProblem({
    code: 'IDEMPOTENCY_KEY_IN_USE',
    detail: 'Retry später.',
    retryAfterSeconds,
    docsUrl,
  });

describe('IdempotencyProblem', () => {
  it.each(Object.entries(IDEMPOTENCY_STATUS))('carries %s with status %i and a title', (code, status) => {
    const problem = new IdempotencyProblem({ code: code as IdempotencyErrorCode, detail: 'what', docsUrl });
    expect(problem).toBeInstanceOf(HttpException);
    expect(problem.getStatus()).toBe(status);
    expect(problem.message).toBe('what');
    expect(problem.getResponse()).toEqual({
      type: `${docsUrl}#${code}`,
      title: expect.stringMatching(/^[A-Z].{10,}[^.]$/) as string,
      status,
      statusCode: status,
      message: 'what',
      detail: 'what',
      code,
    });
  });

  it.each([
    [0, 1],
    [0.2, 1],
    [1, 1],
    [1.2, 2],
    [undefined, undefined],
  ])('rounds a retry after %s seconds to %s', (given, sent) => {
    expect(inUse(given).retryAfterSeconds).toBe(sent);
  });

  it('keeps its cause for logs and out of the body', () => {
    const cause = new Error('secret');
    const problem = new IdempotencyProblem({
      code: 'IDEMPOTENCY_STORE_UNAVAILABLE',
      detail: 'x',
      docsUrl,
      cause,
    });
    expect(problem.cause).toBe(cause);
    expect(JSON.stringify(problem.getResponse())).not.toContain('secret');
  });
});

interface Serializing {
  serializer?(serialize: (payload: unknown) => string): unknown;
}

@Controller()
class Problems {
  @Post('in-use') inUse(): never {
    throw inUse(1.5);
  }
  @Get('in-use') get(): never {
    throw inUse(1.5);
  }
  @Post('reused') @Header('Content-Type', 'text/csv') reused(): never {
    throw new IdempotencyProblem({ code: 'IDEMPOTENCY_KEY_REUSED', detail: 'x', docsUrl });
  }
  @Post('serializer') serializer(@Res({ passthrough: true }) response: Serializing): never {
    response.serializer?.((payload) => `twice:${String(payload)}`);
    throw inUse();
  }
}

@Module({ controllers: [Problems], providers: [{ provide: APP_FILTER, useClass: IdempotencyProblemFilter }] })
class ProblemsModule {}

describe.each(['express', 'fastify'] as const)('IdempotencyProblemFilter on %s', (platform) => {
  let app: INestApplication;
  let url: string;
  beforeAll(async () => {
    const adapter = platform === 'express' ? new ExpressAdapter() : new FastifyAdapter();
    app = await NestFactory.create(ProblemsModule, adapter, { logger: false });
    await app.listen(0, '127.0.0.1');
    url = await app.getUrl();
  });
  afterAll(() => app.close());

  it('answers problem details with their headers', async () => {
    const response = await fetch(`${url}/in-use`, { method: 'POST' });
    expect(response.status).toBe(409);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'content-type': 'application/problem+json; charset=utf-8',
      'content-language': 'en',
      'cache-control': 'no-store',
      'retry-after': '2',
      link: `<${docsUrl}#IDEMPOTENCY_KEY_IN_USE>; rel="describedby"; type="text/html"`,
    });
    expect(await response.json()).toEqual(inUse().getResponse());
  });

  it('replaces the content type that the route sets, and sends no Retry-After by itself', async () => {
    const response = await fetch(`${url}/reused`, { method: 'POST' });
    expect(response.status).toBe(422);
    expect(response.headers.get('content-type')).toBe('application/problem+json; charset=utf-8');
    expect(response.headers.get('retry-after')).toBeNull();
    expect(await response.json()).toMatchObject({ code: 'IDEMPOTENCY_KEY_REUSED' });
  });

  it('sends its own bytes whatever serializer the handler set', async () => {
    const response = await fetch(`${url}/serializer`, { method: 'POST' });
    expect(await response.json()).toMatchObject({ code: 'IDEMPOTENCY_KEY_IN_USE' });
  });

  it('answers HEAD without a body', async () => {
    const response = await fetch(`${url}/in-use`, { method: 'HEAD' });
    expect([response.status, await response.text()]).toEqual([409, '']);
  });

  it('only ends an answer whose headers are sent', () => {
    const calls: string[] = [];
    const httpAdapter = {
      isHeadersSent: () => true,
      end: () => calls.push('end'),
      reply: () => calls.push('reply'),
    };
    const adapterHost = Object.assign(new HttpAdapterHost(), { httpAdapter });
    const host = { getType: () => 'http', switchToHttp: () => ({ getResponse: () => ({}) }) };
    new IdempotencyProblemFilter(adapterHost).catch(inUse(), host as unknown as ArgumentsHost);
    expect(calls).toEqual(['end']);
  });

  it('leaves other transports to their own handling', () => {
    const host = { getType: () => 'rpc' } as unknown as ArgumentsHost;
    expect(
      () =>
        app.get(HttpAdapterHost) &&
        new IdempotencyProblemFilter(app.get(HttpAdapterHost)).catch(inUse(), host),
    ).toThrow(IdempotencyProblem);
  });
});
