import { Readable } from 'node:stream';
import { StreamableFile } from '@nestjs/common';
import { type CapturedReply, type FirstHeaders, NO_FIRST_HEADERS } from './captured-reply.js';
import { contentTypeAsSet, headerOf, type PlatformResponse } from './platform.js';
import { storedHeaders } from './replay-headers.js';
import { isBodiless } from './serialised-body.js';
import {
  chunkBytes,
  inferContentType,
  isConsumed,
  isWebResponse,
  openBody,
  readAhead,
  type StreamingBody,
  webResponseHeaders,
} from './streaming-body.js';

/** What capturing a stream needs to know. */
export interface StreamContext {
  readonly response: PlatformResponse;
  readonly maxBytes: number;
  readonly replayHeaders: readonly string[];
}

const overLimit = (maxBytes: number): string => `the answer is a stream of more than ${maxBytes} bytes`;

/** Reads a `StreamableFile`. One that is over the limit goes on as a file of what was read and the rest. */
export async function captureFile(file: StreamableFile, context: StreamContext): Promise<CapturedReply> {
  const { response, maxBytes, replayHeaders } = context;
  const { type, disposition, length } = file.getHeaders();
  const own = new Map<string, string>();
  // Nest leaves a header that is already set alone.
  if (headerOf(response, 'content-type') === undefined) own.set('content-type', type);
  if (disposition !== undefined && headerOf(response, 'content-disposition') === undefined) {
    own.set('content-disposition', Array.isArray(disposition) ? disposition.join(',') : disposition);
  }
  const status = response.statusCode;
  const headers = storedHeaders(response, replayHeaders, own);
  const unstorable = (reason: string, emit: StreamableFile): CapturedReply => {
    return { kind: 'unstorable', reason, status, headers, emit, first: NO_FIRST_HEADERS };
  };
  if (length !== undefined && length > maxBytes) return unstorable(overLimit(maxBytes), file);
  const source: unknown = file.getStream();
  if (!(source instanceof Readable))
    return unstorable('the file is a stream that cannot be read ahead', file);
  const read = await readAhead(openBody(source), maxBytes, fileChunkBytes);
  if (read.kind === 'over-limit') {
    const rest = new StreamableFile(
      Readable.from(read.all, { objectMode: source.readableObjectMode }),
      file.options,
    )
      .setErrorHandler(file.errorHandler)
      .setErrorLogger(file.errorLogger);
    return unstorable(overLimit(maxBytes), rest);
  }
  return storable(status, headers, read.body, { headers: own, cookies: [] });
}

/** Nest's adapters write nothing but text and bytes from a file; its stream breaks at anything else. */
function fileChunkBytes(chunk: unknown): Buffer {
  if (typeof chunk === 'string' || chunk instanceof Uint8Array) return chunkBytes(chunk);
  throw new TypeError(
    `A StreamableFile can only send string and Uint8Array chunks, received ${typeof chunk}`,
  );
}

/** Reads an async iterable or a web `Response`, as Nest would send it. */
export async function captureStream(body: StreamingBody, context: StreamContext): Promise<CapturedReply> {
  return isWebResponse(body) ? captureWebResponse(body, context) : captureIterable(body, context);
}

async function captureIterable(body: AsyncIterable<unknown>, context: StreamContext): Promise<CapturedReply> {
  const { response, maxBytes, replayHeaders } = context;
  const status = response.statusCode;
  const read = await readUnread(body, maxBytes);
  if (read.kind === 'over-limit') {
    const headers = storedHeaders(response, replayHeaders);
    return {
      kind: 'unstorable',
      reason: overLimit(maxBytes),
      status,
      headers,
      emit: read.all,
      first: NO_FIRST_HEADERS,
    };
  }
  const own = new Map<string, string>();
  if (read.chunks.length > 0 && headerOf(response, 'content-type') === undefined) {
    own.set('content-type', inferContentType(read.chunks[0]));
  }
  return storable(status, storedHeaders(response, replayHeaders, own), read.body, NO_FIRST_HEADERS);
}

async function captureWebResponse(body: Response, context: StreamContext): Promise<CapturedReply> {
  const { response, maxBytes, replayHeaders } = context;
  const { status } = body;
  const own = new Map(webResponseHeaders(body));
  const named = own.get('content-type');
  if (named !== undefined) own.set('content-type', contentTypeAsSet(response, named));
  const source = body.body as AsyncIterable<unknown> | null;
  const read = source ? await readUnread(source, maxBytes) : undefined;
  const isEmpty = read?.kind !== 'over-limit' && !read?.chunks.length;
  if (!isEmpty && !own.has('content-type') && headerOf(response, 'content-type') === undefined) {
    own.set('content-type', 'application/octet-stream');
  }
  const headers = storedHeaders(response, replayHeaders, own);
  const cookies = body.headers.getSetCookie();
  if (read?.kind === 'over-limit') {
    const emit = new StreamableFile(Readable.from(encoded(read.all)));
    return {
      kind: 'unstorable',
      reason: overLimit(maxBytes),
      status,
      headers,
      emit,
      first: { headers: own, cookies },
    };
  }
  // The length of what is sent is known now, and may differ from what the headers claim.
  own.delete('content-length');
  own.delete('transfer-encoding');
  return storable(status, headers, read?.body ?? Buffer.alloc(0), { headers: own, cookies });
}

async function* encoded(chunks: AsyncIterable<unknown>): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) yield chunkBytes(chunk);
}

async function readUnread(body: AsyncIterable<unknown>, maxBytes: number): ReturnType<typeof readAhead> {
  if (isConsumed(body)) {
    throw new TypeError(
      'The route handler returned a body that has been read already, so it cannot be sent.',
    );
  }
  return readAhead(openBody(body), maxBytes, chunkBytes);
}

function storable(
  status: number,
  headers: Record<string, string>,
  body: Buffer,
  first: FirstHeaders,
): CapturedReply {
  if (!isBodiless(status)) return { kind: 'storable', response: { status, headers, body }, first };
  const { 'content-type': _, ...rest } = headers;
  return { kind: 'storable', response: { status, headers: rest, body: Buffer.alloc(0) }, first };
}
