import { STATUS_CODES } from 'node:http';
import { isJsonContentType, parseMediaType, withUtf8Charset } from './media-type.js';
import {
  type ExpressResponse,
  type FastifyReply,
  hasOwnSerializer,
  headerOf,
  isFastify,
  type PlatformResponse,
} from './platform.js';

/** A value as the platform would write it. */
export type SerialisedBody =
  | { readonly kind: 'bytes'; readonly body: Buffer; readonly contentType: string | undefined }
  /** The platform itself would fail on it, or would answer something that is not made of the value. */
  | { readonly kind: 'unserialisable'; readonly reason: string };

/** How the value is answered. */
export interface ReplyTarget {
  readonly response: PlatformResponse;
  /** Status of the answer. */
  readonly status: number;
  /** Whether it is the answer to an exception: Nest then overrules a content type that is not JSON. */
  readonly isError: boolean;
}

const unserialisable = (reason: string): SerialisedBody => ({ kind: 'unserialisable', reason });

/**
 * The bytes and the content type that Nest's adapter and the platform behind it would send for a value that is no
 * stream: the same settings, the same defaults, nothing sent. Where the platforms differ, so do the results: a Buffer
 * is JSON on Express and bytes on Fastify, `null` is empty on Express and `null` on Fastify.
 */
export function serialiseBody(value: unknown, target: ReplyTarget): SerialisedBody {
  const { response, status } = target;
  try {
    const serialised = isFastify(response)
      ? forFastify(value, response, target)
      : forExpress(value, response, target);
    return isBodiless(status) && serialised.kind === 'bytes' ? { ...serialised, ...NO_CONTENT } : serialised;
  } catch (error) {
    return unserialisable(error instanceof Error ? error.message : 'serialisation failed');
  }
}

const NO_CONTENT = { body: Buffer.alloc(0), contentType: undefined };

/** Statuses whose answers have no content (RFC 9110, sections 15.3.5 and 15.4.5). */
export function isBodiless(status: number): boolean {
  return status === 204 || status === 304;
}

function forExpress(value: unknown, response: ExpressResponse, target: ReplyTarget): SerialisedBody {
  let contentType = headerOf(response, 'content-type') || undefined;
  if (value === undefined || value === null) return bytes('', contentType);
  const body = withoutErrorDetails(value, target);
  if (contentType !== undefined && isMislabelled(body, contentType, target)) contentType = 'application/json';
  const text = typeof body === 'object' ? expressJson(body, response) : primitiveText(body);
  contentType ??= typeof body === 'object' ? 'application/json; charset=utf-8' : 'text/html';
  // A value whose `toJSON` returns undefined: Express sends no body and leaves the content type as it is.
  if (text === undefined) return bytes('', contentType);
  contentType = withUtf8Charset(contentType);
  if (contentType === undefined) return unserialisable('the Content-Type set on the response is malformed');
  return bytes(target.status === 205 ? '' : text, contentType);
}

/** Nest hands Express everything but objects as `String(value)`. */
function primitiveText(value: unknown): string {
  return typeof value === 'string' ? value : String(value);
}

/** `response.json()` of Express, with the application's settings. */
function expressJson(value: object | null, { app }: ExpressResponse): string | undefined {
  const replacer = app?.get('json replacer');
  const spaces = app?.get('json spaces');
  // Undefined for a value that JSON leaves out, which the type of JSON.stringify does not say.
  const json = JSON.stringify(value, replacer, spaces) as string | undefined;
  if (!app?.get('json escape')) return json;
  return json?.replace(/[<>&]/g, (character) => `\\u00${character.charCodeAt(0).toString(16)}`);
}

function forFastify(value: unknown, reply: FastifyReply, target: ReplyTarget): SerialisedBody {
  if (value instanceof Error && target.status < 400) {
    return unserialisable('Fastify hands a returned Error to its error handler');
  }
  const body = withoutErrorDetails(value, target);
  let header = headerOf(reply, 'content-type');
  const ownSerializer = hasOwnSerializer(reply);
  if (header !== undefined && isMislabelled(body, header, target, ownSerializer)) header = 'application/json';
  if (body === undefined) return bytes('', header);
  const media = parseMediaType(header);
  const contentType = media && header;
  const binary = bytesOf(body);
  if (binary) return bytes(binary, contentType ?? 'application/octet-stream');
  if (isPipe(body)) return unserialisable('the answer is a stream that cannot be read ahead');
  if (!media && typeof body === 'string') return bytes(body, 'text/plain; charset=utf-8');
  if (ownSerializer) return bytes(serialise(body, reply, target), contentType);
  if (media && !media.type.includes('json')) {
    if (typeof body === 'string' || body === null) return bytes(body ?? '', contentType);
    return unserialisable(`Fastify sends no ${typeof body} as ${media.type}`);
  }
  return bytes(typeof body === 'string' ? body : serialise(body, reply, target), fastifyJson(contentType));
}

/** `reply.serialize()`, which chooses a response schema by the status that is set on the reply. */
function serialise(body: unknown, reply: FastifyReply, { status }: ReplyTarget): string | Uint8Array {
  const before = reply.raw.statusCode;
  reply.raw.statusCode = status;
  try {
    return reply.serialize(body) ?? '';
  } finally {
    reply.raw.statusCode = before;
  }
}

/** Fastify adds the charset to JSON types that name none. */
function fastifyJson(contentType: string | undefined): string {
  const media = parseMediaType(contentType);
  if (!media || contentType === undefined) return 'application/json; charset=utf-8';
  if (media.parameters.has('charset')) return contentType;
  const parameters = [...media.parameters].map(([name, value]) => `; ${name}="${value}"`).join('');
  return `${media.type}${parameters}; charset=utf-8`;
}

/** Nest's adapters answer an Error that is the body of an error with the words of the status, not its properties. */
function withoutErrorDetails(value: unknown, { status }: ReplyTarget): unknown {
  if (!(value instanceof Error) || status < 400) return value;
  return { statusCode: status, message: STATUS_CODES[status] ?? 'Error' };
}

/** Whether Nest's adapters would overrule the content type, since the body is that of an error and no such text. */
function isMislabelled(
  body: unknown,
  contentType: string,
  { isError, status }: ReplyTarget,
  ownSerializer = false,
): boolean {
  if (isJsonContentType(contentType) || typeof body !== 'object' || body === null) return false;
  if ('statusCode' in body && Number(body.statusCode) >= 400) return true;
  return isError && status >= 400 && !ownSerializer;
}

/** Fastify's own test for binary: anything over an ArrayBuffer. */
function bytesOf(body: unknown): Buffer | undefined {
  if (!ArrayBuffer.isView(body) || !(body.buffer instanceof ArrayBuffer)) return undefined;
  return Buffer.from(body.buffer, body.byteOffset, body.byteLength);
}

function isPipe(body: unknown): boolean {
  return typeof body === 'object' && body !== null && 'pipe' in body && typeof body.pipe === 'function';
}

function bytes(body: string | Uint8Array, contentType: string | undefined): SerialisedBody {
  return { kind: 'bytes', body: Buffer.from(body), contentType };
}
