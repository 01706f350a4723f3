import { Readable } from 'node:stream';
import { StreamableFile } from '@nestjs/common';
import { describe, expect, it } from 'vitest';
import { emitFirst, emitReply } from './emit-reply.js';
import type { ExpressResponse } from './platform.js';
import { captureReply, type CapturedReply } from './reply-codec.js';

function responseOf(statusCode = 201): ExpressResponse & { readonly headers: Map<string, unknown> } {
  const headers = new Map<string, string>();
  return {
    statusCode,
    headers,
    getHeader: (name) => headers.get(name.toLowerCase()),
    setHeader: (name, value) => headers.set(name.toLowerCase(), value as string),
    removeHeader: (name) => void headers.delete(name.toLowerCase()),
  };
}

const capture = (value: unknown, maxBytes = 1000, response = responseOf()): Promise<CapturedReply> =>
  captureReply({ value, response, maxBytes, replayHeaders: ['Location'] });

async function bytesOf(file: unknown): Promise<string> {
  if (!(file instanceof StreamableFile)) throw new Error('not a file');
  const chunks = await file.getStream().toArray();
  return Buffer.concat(chunks.map((chunk: Buffer | string) => Buffer.from(chunk))).toString();
}

describe('captureReply', () => {
  it.each([
    ['a string', () => 'x'.repeat(10)],
    ['JSON', () => ['x'.repeat(6)]],
    ['a file', () => new StreamableFile(Buffer.alloc(10))],
    ['a file of unknown length', () => new StreamableFile(Readable.from([Buffer.alloc(5), Buffer.alloc(5)]))],
    ['a generator', () => Readable.from(['12345', '67890'])],
    ['a web Response', () => new Response('1234567890', { status: 201 })],
  ])('stores %s of exactly the limit and nothing one byte larger', async (_, make) => {
    expect((await capture(make(), 10)).kind).toBe('storable');
    expect(await capture(make(), 9)).toMatchObject({ kind: 'unstorable', status: 201 });
  });

  it('stores empty answers alone when the limit is 0', async () => {
    expect((await capture(undefined, 0)).kind).toBe('storable');
    expect((await capture('', 0)).kind).toBe('storable');
    expect((await capture(0, 0)).kind).toBe('unstorable');
  });

  it('leaves a file that names a length over the limit unread', async () => {
    const stream = Readable.from(['never']);
    const file = new StreamableFile(stream, { length: 5000 });
    expect(await capture(file)).toMatchObject({ kind: 'unstorable', emit: file });
    expect(Readable.isDisturbed(stream)).toBe(false);
  });

  it('hands on every byte of a file that turns out too large, with its headers and handlers', async () => {
    const onError = (): void => undefined;
    const stream = Readable.from([Buffer.from('ab'), Buffer.from('cd'), Buffer.from('ef')]);
    const file = new StreamableFile(stream, { type: 'a/b', disposition: 'inline' }).setErrorHandler(onError);
    const captured = await capture(file, 3);
    if (captured.kind !== 'unstorable') throw new Error('stored');
    expect(captured.emit).not.toBe(file);
    expect((captured.emit as StreamableFile).getHeaders()).toEqual(file.getHeaders());
    expect((captured.emit as StreamableFile).errorHandler).toBe(onError);
    expect(await bytesOf(captured.emit)).toBe('abcdef');
  });

  it('gives up a source when the rest of its body is given up', async () => {
    let cleaned = false;
    async function* endless(): AsyncGenerator<string> {
      try {
        for (;;) yield await Promise.resolve('chunk');
      } finally {
        cleaned = true;
      }
    }
    const captured = await capture(endless(), 8);
    if (captured.kind !== 'unstorable') throw new Error('stored');
    for await (const _ of captured.emit as AsyncIterable<unknown>) break;
    expect(cleaned).toBe(true);
  });

  it.each<[string, () => unknown]>([
    ['a rejected promise', () => Promise.reject(new Error('broken'))],
    ['a file whose stream breaks', () => new StreamableFile(breaking())],
    ['a stream that breaks', () => breaking()],
    ['a web Response that breaks', () => new Response(Readable.toWeb(breaking()) as ReadableStream)],
  ])('fails with the error of %s, since the handler came to no answer', async (_, make) => {
    await expect(capture(make())).rejects.toThrow('broken');
  });

  it('fails for a body that was read before', async () => {
    const response = new Response('once');
    await response.text();
    await expect(capture(response)).rejects.toThrow('read already');
  });

  it('fails for a file with chunks that are neither text nor bytes, and gives it up', async () => {
    const stream = Readable.from([{ a: 1 }, { a: 2 }]);
    await expect(capture(new StreamableFile(stream))).rejects.toThrow(TypeError);
    expect(stream.destroyed).toBe(true);
  });

  it('keeps a file without a readable stream out of the store', async () => {
    const old = { pipe: () => undefined } as unknown as Readable;
    expect((await capture(new StreamableFile(old))).kind).toBe('unstorable');
  });

  it('leaves no header on the response before the answer is sent', async () => {
    const response = responseOf();
    const value = new Response('x', { headers: { 'x-own': '1', 'set-cookie': 'a=1', location: '/1' } });
    const captured = await capture(value, 1000, response);
    expect([...response.headers.keys()]).toEqual([]);
    emitFirst(response, captured);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'x-own': '1',
      'set-cookie': ['a=1'],
      location: '/1',
      'idempotent-replayed': 'false',
    });
  });

  it('never stores a cookie that the handler set', async () => {
    const response = responseOf();
    response.setHeader('set-cookie', 'session=1');
    const reply = { value: 'x', response, maxBytes: 10, replayHeaders: ['Set-Cookie'] };
    expect(await captureReply(reply)).toMatchObject({
      response: { headers: { 'content-type': 'text/html; charset=utf-8' } },
    });
  });

  it('keeps an answer with a malformed content type out of the store', async () => {
    const response = responseOf();
    response.setHeader('content-type', 'image/');
    expect((await capture('x', 10, response)).kind).toBe('unstorable');
  });

  it('stores a redirect by its target', async () => {
    const of = (value: unknown): Promise<CapturedReply> =>
      captureReply({
        value,
        response: responseOf(),
        maxBytes: 0,
        replayHeaders: [],
        redirect: { url: '/default' },
      });
    expect(await of(undefined)).toMatchObject({
      response: { status: 302, headers: { location: '/default' } },
    });
    expect(await of({ url: '/own', statusCode: 301 })).toMatchObject({
      response: { status: 301, headers: { location: '/own' } },
    });
  });
});

describe('emitReply', () => {
  const stored = {
    status: 201,
    headers: { 'content-type': 'application/json; charset=utf-8' },
    body: Buffer.from('{}'),
  };

  it('answers with the status it is given', () => {
    const response = responseOf();
    expect(emitReply(response, stored, { status: 200, replayed: true })).toBe('{}');
    expect(response.statusCode).toBe(200);
    expect(response.getHeader('idempotent-replayed')).toBe('true');
  });

  it('sends bytes that are no text as they are', async () => {
    const body = Buffer.from([0xff, 0xfe]);
    const value = emitReply(responseOf(), { ...stored, body }, { status: 200, replayed: true });
    expect(value).toBeInstanceOf(StreamableFile);
    expect((value as StreamableFile).getHeaders().length).toBe(2);
  });

  it('refuses to send a tombstone', () => {
    expect(() => emitReply(responseOf(), { ...stored, body: null }, { status: 200, replayed: true })).toThrow(
      TypeError,
    );
  });
});

function breaking(): Readable {
  return Readable.from(
    (async function* () {
      yield await Promise.resolve(Buffer.from('x'));
      throw new Error('broken');
    })(),
  );
}
