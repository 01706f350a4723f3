import 'reflect-metadata';
import { Readable } from 'node:stream';
import {
  type CallHandler,
  Controller,
  type ExecutionContext,
  Get,
  Header,
  HttpCode,
  Injectable,
  type INestApplication,
  Module,
  type NestInterceptor,
  Post,
  Redirect,
  Res,
  StreamableFile,
  UseInterceptors,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { lastValueFrom, map, type Observable, of } from 'rxjs';
import { emitFirst, emitReply } from '../../libs/idempotency/src/http/emit-reply.js';
import type { PlatformResponse } from '../../libs/idempotency/src/http/platform.js';
import {
  captureReply,
  type CapturedReply,
  type RedirectTarget,
} from '../../libs/idempotency/src/http/reply-codec.js';

interface AnyReply extends Record<'header' | 'status', (...args: unknown[]) => AnyReply> {
  serializer?(serialize: (payload: unknown) => unknown): AnyReply;
}

/** A server whose answer the route `fetched` hands on. */
export const upstream = { url: '' };

const lone = JSON.parse('"\\ud800"') as string;
const PNG = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0xff, 0xfe]);
const circle: Record<string, unknown> = {};
circle['self'] = circle;

class Item {
  constructor(
    readonly id: number,
    readonly secret: string,
  ) {}
  toJSON(): object {
    return { id: this.id };
  }
}

/** Wraps a stream in an envelope, from which Nest takes it out again. */
@Injectable()
class Wrapping implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(map((data: unknown) => ({ data })));
  }
}

@Controller()
class Results {
  @Post('object') object(): object {
    return { b: 1, a: [1, 'x', null], nested: { z: true, 10: 'ten' } };
  }
  @Post('empty-object') emptyObject(): object {
    return {};
  }
  @Post('array') array(): unknown[] {
    return [1, { a: 2 }, null, undefined];
  }
  @Post('string') string(): string {
    return 'plain text';
  }
  @Post('empty-string') emptyString(): string {
    return '';
  }
  @Post('html') @Header('Content-Type', 'text/xml') xml(): string {
    return '<a>é</a>';
  }
  @Post('csv-params') @Header('Content-Type', 'text/csv; header=present') csv(): string {
    return 'a,b\n1,2';
  }
  @Post('json-string') @Header('Content-Type', 'application/json') jsonString(): string {
    return '{"a":1}';
  }
  @Post('vendor-json') @Header('Content-Type', 'application/vnd.api+json') vendor(): object {
    return { data: [] };
  }
  @Post('json-charset') @Header('Content-Type', 'application/json; charset=utf-16') charset(): object {
    return { a: 1 };
  }
  @Post('vendor-json-params')
  @Header('Content-Type', 'application/vnd.api+json; ext="https://x.example/a"')
  vendorParams(): object {
    return { data: [] };
  }
  @Post('null') null(): null {
    return null;
  }
  @Post('undefined') undefined(): undefined {
    return undefined;
  }
  @Post('null-with-type') @Header('Content-Type', 'text/plain') nullWithType(): null {
    return null;
  }
  @Post('no-content') @HttpCode(204) noContent(): void {}
  @Post('no-content-with-value') @HttpCode(204) noContentValue(): object {
    return { dropped: true };
  }
  @Post('reset-content') @HttpCode(205) resetContent(): object {
    return { a: 1 };
  }
  @Post('number') number(): number {
    return 42.5;
  }
  @Post('zero') zero(): number {
    return 0;
  }
  @Post('nan') nan(): number {
    return NaN;
  }
  @Post('true') true(): boolean {
    return true;
  }
  @Post('false') false(): boolean {
    return false;
  }
  @Post('date-inside') dateInside(): object {
    return { at: new Date('2026-01-02T03:04:05.678Z') };
  }
  @Post('date') date(): Date {
    return new Date('2026-01-02T03:04:05.678Z');
  }
  @Post('exotic') exotic(): object {
    return { map: new Map([[1, 2]]), set: new Set([1]), nan: NaN, inf: Infinity, u: undefined, f: () => 1 };
  }
  @Post('to-json') toJson(): Item {
    return new Item(7, 'hidden');
  }
  @Post('text') text(): object {
    return { nul: '\u0000', emoji: '🛒', lone, line: '\u2028', amp: '<b>&</b>' };
  }
  @Post('text-string') textString(): string {
    return `\u0000 🛒 ${lone} \ufeff`;
  }
  @Post('bom-string') bomString(): string {
    return '\ufeffbom';
  }
  @Post('buffer') buffer(): Buffer {
    return PNG;
  }
  @Post('buffer-typed') @Header('Content-Type', 'image/png') bufferTyped(): Buffer {
    return PNG;
  }
  @Post('uint8array') bytes(): Uint8Array {
    return new Uint8Array([1, 2, 255]);
  }
  @Post('created') @HttpCode(202) accepted(): object {
    return { accepted: true };
  }
  @Post('passthrough') passthrough(@Res({ passthrough: true }) response: AnyReply): object {
    response.status(203);
    response.header('Location', '/things/1');
    response.header('X-Other', 'other');
    return { a: 1 };
  }
  @Post('status-field') statusField(): object {
    return { statusCode: 418, message: 'a value, not an error' };
  }
  @Post('status-field-typed') @Header('Content-Type', 'text/plain') statusFieldTyped(): object {
    return { statusCode: 418 };
  }
  @Post('error-with-status') errorWithStatus(@Res({ passthrough: true }) response: AnyReply): Error {
    response.status(409);
    return new Error('secret');
  }
  @Post('promise') async promise(): Promise<object> {
    return Promise.resolve({ a: 1 });
  }
  @Post('observable') observable(): Observable<object> {
    return of({ first: 1 }, { last: 2 });
  }
  @Post('emitted-promise') emittedPromise(): Observable<unknown> {
    return of(Promise.resolve({ late: true }));
  }
  @Post('file') file(): StreamableFile {
    return new StreamableFile(PNG, { type: 'image/png', disposition: 'attachment; filename="a.png"' });
  }
  @Post('file-text') fileText(): StreamableFile {
    return new StreamableFile(Buffer.from('a;b'), { type: 'text/csv; charset=utf-8' });
  }
  @Post('file-shouting') fileShouting(): StreamableFile {
    return new StreamableFile(Buffer.from('a;b'), { type: 'Text/CSV;charset=UTF-8' });
  }
  @Post('file-empty') fileEmpty(): StreamableFile {
    return new StreamableFile(Buffer.alloc(0));
  }
  @Post('file-stream') fileStream(): StreamableFile {
    return new StreamableFile(Readable.from([Buffer.from('one'), Buffer.from('two')], { objectMode: false }));
  }
  @Post('file-objects') fileObjects(): StreamableFile {
    return new StreamableFile(Readable.from(['one', 'zwei ü']), { type: 'text/plain' });
  }
  @Post('generator') async *generator(): AsyncGenerator {
    yield { a: 1 };
    yield await Promise.resolve('text');
    yield new Uint8Array([10]);
  }
  @Post('generator-text') async *generatorText(): AsyncGenerator<string> {
    yield 'one';
    yield await Promise.resolve('zwei ü');
  }
  @Post('generator-empty') async *generatorEmpty(): AsyncGenerator<string> {}
  @Post('readable') readable(): Readable {
    return Readable.from([Buffer.from('one'), PNG]);
  }
  @Post('web-stream') webStream(): ReadableStream {
    return new ReadableStream({
      start(controller) {
        controller.enqueue('web');
        controller.enqueue(new Uint8Array([0, 255]));
        controller.close();
      },
    });
  }
  @Post('web-response') webResponse(): Response {
    return new Response('{"web":true}', {
      status: 207,
      headers: [
        ['content-type', 'application/json'],
        ['location', '/web/1'],
        ['x-own', 'own'],
        ['set-cookie', 'a=1'],
        ['set-cookie', 'b=2'],
      ],
    });
  }
  @Post('web-response-bytes') webResponseBytes(): Response {
    return new Response(new Uint8Array([1, 255]));
  }
  @Post('web-response-empty') webResponseEmpty(): Response {
    return new Response(null, { status: 204, headers: { etag: '"1"' } });
  }
  @Post('redirect') @Redirect('/elsewhere', 303) redirect(): void {}
  @Post('redirect-chosen') @Redirect('/elsewhere') redirectChosen(): RedirectTarget {
    return { url: '/chosen?q=ü', statusCode: 307 };
  }
  @Get('elsewhere') elsewhere(): string {
    return 'there';
  }
  @Post('encoded') encoded(@Res({ passthrough: true }) response: AnyReply): StreamableFile {
    response.header('Content-Encoding', 'x-identity');
    return new StreamableFile(PNG);
  }
  @Post('fetched') fetched(): Promise<Response> {
    return fetch(upstream.url);
  }
  @Post('returned-error') returnedError(): Error {
    return new Error('secret');
  }
  @Post('to-json-nothing') toJsonNothing(): object {
    return { toJSON: () => undefined };
  }
  @Post('bigint') bigintAlone(): bigint {
    return 12n;
  }
  @Post('symbol') symbol(): symbol {
    return Symbol('s');
  }
  @Post('function') function(): () => number {
    return () => 1;
  }
  @Post('null-prototype') nullPrototype(): object {
    return Object.assign(Object.create(null) as object, { a: 1 });
  }
  @Post('array-buffer-chunks') async *arrayBufferChunks(): AsyncGenerator {
    yield new ArrayBuffer(2);
    yield await Promise.resolve(undefined);
    yield new DataView(new Uint8Array([7, 8]).buffer, 1);
  }
  // What cannot be stored.
  @Post('bigint-inside') bigint(): object {
    return { n: 1n };
  }
  @Post('circular') circular(): object {
    return circle;
  }
  @Post('large') large(): string {
    return 'x'.repeat(5000);
  }
  @Post('large-file') largeFile(): StreamableFile {
    return new StreamableFile(Buffer.alloc(5000, 'y'), { type: 'text/plain' });
  }
  @Post('large-file-stream') largeFileStream(): StreamableFile {
    const chunks = Array.from({ length: 50 }, (_, i) => Buffer.alloc(100, i));
    return new StreamableFile(Readable.from(chunks, { objectMode: false }), {
      type: 'application/x-large',
      disposition: 'inline',
    });
  }
  @Post('large-generator') async *largeGenerator(): AsyncGenerator {
    for (let i = 0; i < 100; i++) yield { i, pad: await Promise.resolve('p'.repeat(40)) };
  }
  @Post('large-web-response') largeWebResponse(): Response {
    return new Response('w'.repeat(5000), { status: 207, headers: { 'x-own': 'own', 'set-cookie': 'a=1' } });
  }
  @Post('wrapped-stream') @UseInterceptors(Wrapping) wrappedStream(): object {
    return Readable.from(['inner']);
  }
  @Post('fastify-serializer') serializer(@Res({ passthrough: true }) response: AnyReply): object {
    response.serializer?.((payload) => `#${JSON.stringify(payload)}`);
    response.header('Content-Type', 'application/x-hash');
    return { a: 1 };
  }
  @Post('fastify-serializer-untyped') serializerUntyped(
    @Res({ passthrough: true }) response: AnyReply,
  ): object {
    response.serializer?.((payload) => `#${JSON.stringify(payload)}`);
    return { a: 1 };
  }
  @Post('fastify-serializer-string') serializerString(
    @Res({ passthrough: true }) response: AnyReply,
  ): string {
    response.serializer?.((payload) => `#${String(payload)}`);
    response.header('Content-Type', 'application/x-hash');
    return 'text';
  }
  @Post('object-as-text') @Header('Content-Type', 'text/plain') objectAsText(): object {
    return { a: 1 };
  }
}

const REDIRECT_METADATA = '__redirect__';
/** What was captured of each route, by its path. */
export const captured = new Map<string, CapturedReply>();
const MAX_BYTES = 1000;

/** Captures the first answer of a route and sends it; with `x-replay` sends what was stored, after the same headers. */
@Injectable()
class Capturing implements NestInterceptor {
  async intercept(context: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    const { url, headers } = context
      .switchToHttp()
      .getRequest<Request & { headers: Record<string, string> }>();
    const response = context.switchToHttp().getResponse<PlatformResponse>();
    const metadata: unknown = Reflect.getMetadata(REDIRECT_METADATA, context.getHandler());
    const redirect = metadata as RedirectTarget | undefined;
    const stored = captured.get(url);
    if (headers['x-replay'] !== undefined && stored?.kind === 'storable') {
      const { status } = stored.response;
      return of(emitReply(response, stored.response, { status, replayed: true, redirect: !!redirect }));
    }
    const reply = await captureReply({
      value: await lastValueFrom(next.handle()),
      response,
      maxBytes: MAX_BYTES,
      replayHeaders: ['Location', 'ETag', 'Content-Disposition'],
      redirect,
    });
    captured.set(url, reply);
    return of(emitFirst(response, reply, { redirect: !!redirect }));
  }
}

@Module({ controllers: [Results] })
class ResultsModule {}

/** Starts the application on a free port, with the capturing interceptor or without it. */
export async function boot(platform: 'express' | 'fastify', capturing: boolean): Promise<INestApplication> {
  const adapter = platform === 'express' ? new ExpressAdapter() : new FastifyAdapter();
  const app = await NestFactory.create(ResultsModule, adapter, { logger: false });
  if (platform === 'express') {
    const express = app.getHttpAdapter().getInstance() as { set(name: string, value: unknown): void };
    if (settings.spaces) express.set('json spaces', 2);
    if (settings.escape) express.set('json escape', true);
    if (settings.replacer) {
      express.set('json replacer', (name: string, value: unknown) => (name === 'b' ? 'replaced' : value));
    }
  }
  if (capturing) app.useGlobalInterceptors(new Capturing());
  await app.listen(0, '127.0.0.1');
  return app;
}

/** Settings of the Express applications started from now on. */
export const settings = { spaces: false, escape: false, replacer: false };

/** What a client sees. */
export interface Answer {
  readonly status: number;
  readonly body: string;
  readonly headers: Record<string, string | null>;
  readonly marker: string | null;
  readonly own: { cookies: string[]; other: string | null };
}

export async function call(
  app: INestApplication,
  path: string,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const url = `${await app.getUrl()}/${path}`;
  const response = await fetch(url, { method: 'POST', headers, redirect: 'manual' });
  const body = Buffer.from(await response.arrayBuffer()).toString('hex');
  const names = ['content-type', 'location', 'content-disposition', 'content-encoding'];
  return {
    status: response.status,
    body,
    headers: Object.fromEntries(names.map((name) => [name, response.headers.get(name)])),
    marker: response.headers.get('idempotent-replayed'),
    own: {
      cookies: response.headers.getSetCookie(),
      other: response.headers.get('x-own') ?? response.headers.get('x-other'),
    },
  };
}
