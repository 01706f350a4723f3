import type { OutgoingHttpHeader } from 'node:http';

/** The part of an Express response that this library touches. */
export interface ExpressResponse {
  statusCode: number;
  getHeader(name: string): OutgoingHttpHeader | undefined;
  setHeader(name: string, value: OutgoingHttpHeader): unknown;
  removeHeader(name: string): void;
  /** As `setHeader`, but adds the usual charset to a content type that names none. */
  set?(name: string, value: string): unknown;
  /** Its settings decide how JSON is written: `json replacer`, `json spaces`, `json escape`. */
  readonly app?: ExpressJsonSettings;
}

/** `app.get()` of Express, for the settings that `response.json()` reads. */
export interface ExpressJsonSettings {
  get(setting: 'json replacer'): ((key: string, value: unknown) => unknown) | undefined;
  get(setting: 'json spaces'): string | number | undefined;
  get(setting: 'json escape'): boolean | undefined;
}

/** The part of a Fastify reply that this library touches. */
export interface FastifyReply {
  statusCode: number;
  readonly raw: { statusCode: number };
  getHeader(name: string): OutgoingHttpHeader | undefined;
  header(name: string, value: OutgoingHttpHeader): unknown;
  /** The payload as the reply would write it: its own serializer, the route's response schema, or JSON. */
  serialize(payload: unknown): string | Uint8Array | undefined;
  serializer(serialize: (payload: unknown) => unknown): unknown;
}

/** What `context.switchToHttp().getResponse()` gives, on either platform. */
export type PlatformResponse = ExpressResponse | FastifyReply;

export function isFastify(response: PlatformResponse): response is FastifyReply {
  return 'serializer' in response && typeof response.serializer === 'function';
}

/** One header as one line of text, `undefined` when it is not set. Several values are joined by `, `. */
export function headerOf(response: PlatformResponse, name: string): string | undefined {
  const value = response.getHeader(name);
  if (value === undefined) return undefined;
  return Array.isArray(value) ? value.join(', ') : String(value);
}

export function setHeader(response: PlatformResponse, name: string, value: string): void {
  if (isFastify(response)) response.header(name, value);
  else response.setHeader(name, value);
}

/** What becomes of a content type that Nest sets on the response, which stays as it was. */
export function contentTypeAsSet(response: PlatformResponse, contentType: string): string {
  if (isFastify(response) || !response.set) return contentType;
  const before = response.getHeader('content-type');
  response.set('Content-Type', contentType);
  const after = headerOf(response, 'content-type');
  if (before === undefined) response.removeHeader('content-type');
  else response.setHeader('content-type', before);
  return after ?? contentType;
}

/** Adds a `Set-Cookie` beside those that are set. */
export function appendCookie(response: PlatformResponse, cookie: string): void {
  if (isFastify(response)) {
    // Fastify's `header()` appends this one header by itself.
    response.header('set-cookie', cookie);
    return;
  }
  const present = response.getHeader('set-cookie') ?? [];
  response.setHeader('set-cookie', [...(Array.isArray(present) ? present : [String(present)]), cookie]);
}

/**
 * Makes a reply send the string it is given as it is. A Fastify handler may have set a serializer on the reply, which
 * would run over bytes that are serialised already.
 */
export function keepVerbatim(response: PlatformResponse): void {
  if (isFastify(response)) response.serializer((payload) => payload);
}

const REPLY_SERIALIZER = 'fastify.reply.serializer';

/** Whether the handler gave this reply a serializer of its own (`reply.serializer(fn)`). */
export function hasOwnSerializer(reply: FastifyReply): boolean {
  return typeof serializerOf(reply)?.value === 'function';
}

/** What a reply keeps its serializer under, and the serializer; `null`: it has none of its own. */
export function serializerOf(reply: FastifyReply): { symbol: symbol; value: unknown } | undefined {
  // Fastify keeps it under a symbol that it does not export.
  const symbol = Object.getOwnPropertySymbols(reply).find(
    ({ description }) => description === REPLY_SERIALIZER,
  );
  return symbol && { symbol, value: Reflect.get(reply, symbol) as unknown };
}
