import { isUtf8 } from 'node:buffer';
import { StreamableFile } from '@nestjs/common';
import type { StoredResponse } from '../store/record.js';
import type { CapturedReply } from './captured-reply.js';
import { withUtf8Charset } from './media-type.js';
import { appendCookie, isFastify, keepVerbatim, type PlatformResponse, setHeader } from './platform.js';
import { REPLAYED_HEADER, setStoredHeaders } from './replay-headers.js';
import { isBodiless } from './serialised-body.js';

export interface EmitOptions {
  /** Status to answer with: that of the stored answer, or another one for a replay. */
  readonly status: number;
  readonly replayed: boolean;
  /** Whether the route has `@Redirect()`. */
  readonly redirect?: boolean;
}

/**
 * Puts a stored answer on the response, and returns the value to hand to Nest so that exactly its bytes are sent.
 * A first execution and every replay go through here.
 *
 * Fail closed: a tombstone has no bytes and is refused with a TypeError.
 */
export function emitReply(response: PlatformResponse, stored: StoredResponse, options: EmitOptions): unknown {
  const { status, replayed, redirect = false } = options;
  const { body, headers } = stored;
  if (body === null) throw new TypeError('A stored answer without a body cannot be sent');
  response.statusCode = status;
  setStoredHeaders(response, headers, replayed);
  if (redirect) return { url: headers['location'], statusCode: status };
  const contentType = headers['content-type'];
  if (body.byteLength === 0 && contentType === undefined) return undefined;
  if (isBodiless(status)) return undefined;
  return isFastify(response) ? fastifyValue(response, body, contentType) : expressValue(body, contentType);
}

/**
 * Status of a replay. With `'ok'` a 2xx becomes 200, save those that say that there is no content: 200 would promise
 * some (RFC 9110, section 15.3.1), and a client would read an empty body as JSON.
 */
export function replayedStatus(stored: number, replayStatus: 'ok' | 'original'): number {
  const isSuccess = stored >= 200 && stored < 300;
  return replayStatus === 'ok' && isSuccess && stored !== 204 && stored !== 205 ? 200 : stored;
}

/**
 * Puts the first answer on the response: {@link emitReply} for one that is stored, and for one that cannot be, what lets
 * Nest answer as it would without this library. Headers that only the first answer has are set here and not earlier,
 * so that an attempt that fails to commit leaves none of them on the answer to that.
 */
export function emitFirst(
  response: PlatformResponse,
  captured: CapturedReply,
  options: Pick<EmitOptions, 'redirect'> = {},
): unknown {
  for (const [name, value] of captured.first.headers) setHeader(response, name, value);
  for (const cookie of captured.first.cookies) appendCookie(response, cookie);
  switch (captured.kind) {
    case 'storable':
      return emitReply(response, captured.response, {
        ...options,
        status: captured.response.status,
        replayed: false,
      });
    case 'unstorable':
      response.statusCode = captured.status;
      setHeader(response, REPLAYED_HEADER, 'false');
      return captured.emit;
  }
}

/**
 * Express gets a string where that changes nothing about the content type, since it then makes the ETag that it makes
 * for every string; everything else goes out as a file, whose bytes and type nobody touches.
 */
function expressValue(body: Buffer, contentType: string | undefined): unknown {
  if (contentType !== undefined && withUtf8Charset(contentType) === contentType && isUtf8(body)) {
    return body.toString('utf8');
  }
  return body.byteLength === 0 ? undefined : new StreamableFile(body);
}

/** Fastify sends strings and Buffers as they are, but gives a type to those that have none. */
function fastifyValue(response: PlatformResponse, body: Buffer, contentType: string | undefined): unknown {
  if (contentType !== undefined) {
    keepVerbatim(response);
    return isUtf8(body) ? body.toString('utf8') : body;
  }
  // Of an object a reply with a serializer sends what that returns, without a content type.
  if (isFastify(response)) response.serializer(() => body);
  return {};
}
