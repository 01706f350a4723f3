import { randomUUID } from 'node:crypto';
import { type ArgumentsHost, Catch, Controller, type ExceptionFilter, Post } from '@nestjs/common';
import type { Response } from 'express';
import { IdempotencyProblem, Idempotent } from 'nestjs-pg-idempotency';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startApp, type TestApp } from './support/app.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { type Answer, send } from './support/http.js';

@Controller()
class OrdersController {
  @Post('orders')
  @Idempotent({ maxResponseBytes: 1 })
  order(): string {
    return 'too long to be stored';
  }
}

const seen: IdempotencyProblem[] = [];

@Catch(IdempotencyProblem)
class Watching implements ExceptionFilter {
  catch(problem: IdempotencyProblem, host: ArgumentsHost): void {
    seen.push(problem);
    host.switchToHttp().getResponse<Response>().status(problem.getStatus()).end();
  }
}

describe('the error of a refusal, as a filter of the application sees it', () => {
  let database: TestDatabase;
  let app: TestApp;
  const key = randomUUID();
  const order = (headers: Record<string, string> = {}): Promise<Answer> =>
    send(`${app.url}/orders`, { headers, body: {} });

  beforeAll(async () => {
    database = await createDatabase();
    app = await startApp({
      databaseUrl: database.url,
      controllers: [OrdersController],
      idempotency: { scope: false },
      prepare: (made) => made.useGlobalFilters(new Watching()),
    });
  });
  beforeEach(() => void seen.splice(0));
  afterAll(async () => {
    await app.close();
    await database.drop();
  });

  it('has no stack where the client is at fault: a storm of them would spend its time on stacks', async () => {
    const limit = Error.stackTraceLimit;
    const { status } = await order();
    expect(seen.map(({ stack }) => stack?.split('\n').length)).toEqual([1]);
    expect(status).toBe(400);
    // And no other error of the process loses its own.
    expect(Error.stackTraceLimit).toBe(limit);
  });

  it('has one where the server is', async () => {
    await order({ 'idempotency-key': key });
    const { status } = await order({ 'idempotency-key': key });
    expect(seen.map(({ stack }) => stack?.includes('\n    at '))).toEqual([true]);
    expect(status).toBeGreaterThanOrEqual(500);
  });
});
