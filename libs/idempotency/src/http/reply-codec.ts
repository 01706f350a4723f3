import { StreamableFile } from '@nestjs/common';
import { captureFile, captureStream } from './capture-stream.js';
import { type CapturedReply, NO_FIRST_HEADERS } from './captured-reply.js';
import type { PlatformResponse } from './platform.js';
import { storedHeaders } from './replay-headers.js';
import { serialiseBody } from './serialised-body.js';
import { isStreamingBody } from './streaming-body.js';

export type { CapturedReply, FirstHeaders } from './captured-reply.js';

/** What `@Redirect()` says of a route: Nest's `__redirect__` metadata. */
export interface RedirectTarget {
  readonly url: string;
  readonly statusCode?: number | undefined;
}

export interface CaptureContext {
  /** What the inner interceptors made of the handler's result. */
  readonly value: unknown;
  readonly response: PlatformResponse;
  /** Largest body that is stored, in bytes. 0 stores only empty ones. */
  readonly maxBytes: number;
  /** Response headers to store beside `Content-Type` and `Content-Encoding`, any case. */
  readonly replayHeaders: readonly string[];
  /** Set on routes with `@Redirect()`. */
  readonly redirect?: RedirectTarget | undefined;
}

/**
 * Turns a handler's result into the bytes that the client gets, before anything is sent, so that the bytes stored are
 * the bytes sent, the first time too. Streams are read up to `maxBytes`.
 *
 * A result that cannot be kept (too large, not expressible) is `unstorable`, never an error: its effect stands.
 *
 * @throws what the result itself fails with: a rejected promise, a stream that breaks, one that was read before. The
 * handler has then not come to an answer
 */
export async function captureReply(context: CaptureContext): Promise<CapturedReply> {
  // An inner interceptor may hand over a promise, which Nest would await.
  const value = await context.value;
  const { response, maxBytes, replayHeaders, redirect } = context;
  if (redirect) return captureRedirect(value, redirect, context);
  if (value instanceof StreamableFile) return captureFile(value, context);
  if (isStreamingBody(value)) return captureStream(value, context);
  const status = response.statusCode;
  const headers = storedHeaders(response, replayHeaders);
  const unstorable = (reason: string): CapturedReply => {
    return { kind: 'unstorable', reason, status, headers, emit: value, first: NO_FIRST_HEADERS };
  };
  if (holdsStream(value)) return unstorable('the answer is an object around a stream');
  const serialised = serialiseBody(value, { response, status, isError: false });
  if (serialised.kind === 'unserialisable') return unstorable(serialised.reason);
  const { body, contentType } = serialised;
  if (body.byteLength > maxBytes) return unstorable(tooLarge(body.byteLength, maxBytes));
  delete headers['content-type'];
  if (contentType) headers['content-type'] = contentType;
  return { kind: 'storable', response: { status, headers, body }, first: NO_FIRST_HEADERS };
}

const tooLarge = (size: number, maxBytes: number): string =>
  `the answer has ${size} bytes, maxResponseBytes is ${maxBytes}`;

/** Nest sends `{ data: stream }` as the stream, if the handler returned that one; only Nest knows. */
function holdsStream(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return (prototype === Object.prototype || prototype === null) && Object.values(value).some(isStreamingBody);
}

/** The platform writes the body of a redirect by itself, so only its target is kept. */
function captureRedirect(value: unknown, redirect: RedirectTarget, context: CaptureContext): CapturedReply {
  const chosen = (typeof value === 'object' && value !== null ? value : {}) as Partial<RedirectTarget>;
  const headers = storedHeaders(context.response, context.replayHeaders);
  delete headers['content-type'];
  headers['location'] = chosen.url || redirect.url;
  const status = chosen.statusCode || redirect.statusCode || 302;
  return {
    kind: 'storable',
    response: { status, headers, body: Buffer.alloc(0) },
    first: NO_FIRST_HEADERS,
  };
}
