import 'reflect-metadata';
import { createReadStream } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Body,
  ConflictException,
  Controller,
  createParamDecorator,
  type ExecutionContext,
  Header,
  Headers,
  HttpCode,
  Inject,
  Injectable,
  type INestApplication,
  Module,
  Param,
  ParseIntPipe,
  Post,
  Query,
  Req,
  Res,
  Scope,
  StreamableFile,
  UseFilters,
  UseGuards,
  UseInterceptors,
  UsePipes,
  ValidationPipe,
} from '@nestjs/common';
import { APP_FILTER, APP_GUARD, APP_INTERCEPTOR, DiscoveryModule, NestFactory, REQUEST } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter, RouteSchema } from '@nestjs/platform-fastify';
import { Type } from 'class-transformer';
import { IsInt, IsString } from 'class-validator';
import { concat, delay, type Observable, of } from 'rxjs';
import { markBeginning } from '../../libs/idempotency/src/routes/mark-beginning.js';
import { RouteCaller } from '../../libs/idempotency/src/routes/route-caller.js';
import type { Platform } from './app.js';
import {
  type AnyRequest,
  type AnyResponse,
  Counter,
  Enveloping,
  Filter,
  Guard,
  Observing,
  OfApp,
  OfController,
  OfGlobal,
  OfMethod,
  OwnFilter,
  patternOf,
  requestOf,
  Shouting,
  trace,
} from './caller-enhancers.js';

/** Fastify's alone. */
interface SerialisingReply extends AnyResponse {
  serializer(serialize: (payload: unknown) => unknown): unknown;
  serialize(payload: unknown): unknown;
}

const Tenant = createParamDecorator((name: string, context: ExecutionContext) => {
  const handler = context.getHandler().name;
  return `${context.getType()} ${handler} ${requestOf(context).headers[name]}`;
});

class Line {
  @IsInt()
  @Type(() => Number)
  quantity: number;
  @IsString()
  note: string;
}

@Controller('orders')
@UseGuards(Guard)
@UseInterceptors(OfController)
export class Orders {
  constructor(@Inject(Counter) private readonly counter: Counter) {}

  @Post(':order/lines/:line')
  @UseInterceptors(OfMethod)
  add(
    @Param('order') order: string,
    @Param('line', ParseIntPipe) line: number,
    @Param() params: Record<string, string>,
    @Body() body: Line,
    @Body('note') note: string,
    @Query() query: Record<string, unknown>,
    @Query('page', ParseIntPipe) page: number,
    @Headers('X-Tenant') header: string,
    @Tenant('x-tenant') tenant: string,
    @Req() request: AnyRequest,
  ): object {
    trace(request, `handler ${order} ${line} ${body.quantity + 1}`);
    const isLine = body instanceof Line;
    return { order, line, params, body, isLine, note, query, page, header, tenant, url: request.url };
  }

  @Post('piped/:name')
  @UsePipes(Shouting)
  piped(
    @Param('name') name: string,
    @Req() request: AnyRequest,
    @Res({ passthrough: true }) response: AnyResponse,
    @Headers('x-tenant') tenant: string,
  ): object {
    return { name, tenant, method: request.method, status: response.statusCode };
  }

  @Post('described')
  @HttpCode(202)
  @Header('X-Static', 'decorator')
  described(@Res({ passthrough: true }) response: AnyResponse): object {
    response.header('x-seen', String(response.statusCode));
    return { accepted: true };
  }

  @Post('passthrough')
  passthrough(@Res({ passthrough: true }) response: AnyResponse): string {
    response.status(203).header('x-own', 'value').header('set-cookie', ['a=1', 'b=2']).type('text/csv');
    return 'a,b';
  }

  @Post('bare')
  bare(...args: unknown[]): object {
    return { given: args.length };
  }

  @Post('file') file(): StreamableFile {
    return new StreamableFile(Buffer.from('contents'), { type: 'application/pdf', disposition: 'inline' });
  }

  @Post('file-of-connection')
  fileOfConnection(@Res({ passthrough: true }) response: AnyResponse): StreamableFile {
    const stream = createReadStream(new URL(import.meta.url));
    const connection = (response.raw ?? response) as NodeJS.EventEmitter;
    connection.once('close', () => stream.destroy());
    return new StreamableFile(stream);
  }

  @Post('observable') observable(): Observable<object> {
    return concat(of({ step: 1 }), of({ step: 2 }).pipe(delay(5)));
  }

  @Post('refused') refused(@Req() request: AnyRequest): never {
    trace(request, 'handler');
    throw new ConflictException({ code: 'TAKEN', message: 'taken' });
  }

  @Post('filtered') @UseFilters(OwnFilter) filtered(): never {
    throw new ConflictException('filtered');
  }

  @Post('enveloped') @UseInterceptors(Enveloping) enveloped(): object {
    return { inside: this.counter.next() > 0 };
  }

  @Post('user') user(@Req() { user, headers }: AnyRequest): object {
    return { user, tenant: headers['x-tenant'] };
  }

  @Post('slow/:label') async slow(
    @Param('label') label: string,
    @Body() body: { list: unknown[] },
    @Req() request: AnyRequest,
    @Res({ passthrough: true }) response: AnyResponse,
  ): Promise<object> {
    response.header('x-label', label);
    body.list.push(label);
    await sleep(20);
    return { label, body, tenant: request.headers['x-tenant'], header: response.getHeader('x-label') };
  }

  @Post('sends') sends(@Res({ passthrough: true }) response: AnyResponse): void {
    response.send({ sent: true });
  }

  @Post('sends-late') sendsLate(@Res({ passthrough: true }) response: AnyResponse): object {
    setTimeout(() => response.send({ late: true }), 30);
    return { returned: true };
  }

  @Post('pipes') pipes(@Res() response: AnyResponse): void {
    const target = (response.raw ?? response) as NodeJS.WritableStream;
    createReadStream(new URL(import.meta.url)).pipe(target);
  }

  @Post('returns-reply') async returnsReply(@Res() response: AnyResponse): Promise<AnyResponse> {
    await sleep(1);
    return response;
  }

  @Post('bytes') bytes(@Req() { body }: AnyRequest): object {
    return { isBuffer: Buffer.isBuffer(body), text: String(body) };
  }

  @Post('schema')
  @RouteSchema({ response: { 201: { type: 'object', properties: { shown: { type: 'string' } } } } })
  schema(@Res({ passthrough: true }) reply: SerialisingReply): object {
    return { text: String(reply.serialize({ shown: 'a', hidden: 'b' })) };
  }

  @Post('serializer') serializer(@Res({ passthrough: true }) reply: SerialisingReply): object {
    reply.serializer((payload) => `own ${JSON.stringify(payload)}`);
    const text = String(reply.serialize({ a: 1 }));
    reply.serializer(JSON.stringify);
    return { text };
  }

  @Post(['facts/:which', 'facts-of/:which']) facts(@Req() request: AnyRequest): object {
    const { hostname, protocol, method, url, originalUrl } = request;
    const get = request['get'] as ((name: string) => string | undefined) | undefined;
    const tenant = get?.call(request, 'x-tenant');
    return { hostname, protocol, method, url, originalUrl, tenant, pattern: patternOf(request) };
  }
}

@Injectable({ scope: Scope.REQUEST })
class Session {
  readonly id = Math.random();
  constructor(@Inject(REQUEST) readonly request: AnyRequest) {}
}

@Controller('scoped')
export class ScopedOrders {
  readonly #id = Math.random();
  constructor(
    @Inject(REQUEST) private readonly request: AnyRequest,
    @Inject(Session) private readonly session: Session,
  ) {}

  @Post(':label') async run(@Param('label') label: string, @Req() request: AnyRequest): Promise<object> {
    await sleep(5);
    trace(request, `instance ${this.#id}`);
    const { headers, user } = this.request;
    const same = this.request === request && this.session.request === request;
    return { label, same, tenant: headers['x-tenant'], user };
  }
}

/** Two controllers of one name. */
function twin(path: string): new () => object {
  @Controller(path)
  class Twin {
    @Post() run(): string {
      return path;
    }
  }
  return Twin;
}

/** A controller whose method is replaced while the application starts. */
@Controller('replaced')
export class Replaced {
  @Post() run(): string {
    return 'declared';
  }
}

@Module({
  imports: [DiscoveryModule],
  controllers: [Orders, ScopedOrders, Replaced, twin('twins/a'), twin('twins/b')],
  providers: [
    RouteCaller,
    Counter,
    Session,
    { provide: APP_INTERCEPTOR, useClass: OfApp },
    { provide: APP_GUARD, useClass: Guard },
    { provide: APP_FILTER, useClass: Filter },
  ],
})
class CallerModule {
  configure(): void {
    const { prototype } = Replaced;
    markBeginning(Replaced, 'run', function run(this: unknown) {
      return 'replaced';
    });
    // Decorators are on the declared method; this one stands before it.
    for (const key of Reflect.getMetadataKeys(DECLARED) as unknown[]) {
      Reflect.defineMetadata(key, Reflect.getMetadata(key, DECLARED), prototype.run);
    }
  }
}
const DECLARED = Replaced.prototype.run;

export interface CallerApp {
  readonly app: INestApplication;
  readonly url: string;
  readonly caller: RouteCaller;
}

/** Starts the application on a free port. */
export async function bootCaller(platform: Platform): Promise<CallerApp> {
  const adapter = platform === 'express' ? new ExpressAdapter() : new FastifyAdapter();
  const app = await NestFactory.create(CallerModule, adapter, { logger: false });
  app.useGlobalInterceptors(new Observing(), new OfGlobal());
  app.useGlobalPipes(new ValidationPipe({ transform: true, whitelist: true }));
  await app.listen(0, '127.0.0.1');
  return { app, url: await app.getUrl(), caller: app.get(RouteCaller) };
}
