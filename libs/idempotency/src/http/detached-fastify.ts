import {
  copyOf,
  type DetachedRequest,
  DetachedReplyError,
  openRaw,
  type OpenExchange,
  type RouteHandler,
  type StoredRequest,
} from './detached-exchange.js';
import { parseMediaType } from './media-type.js';
import { type FastifyReply, hasOwnSerializer, headerOf } from './platform.js';

/** The part of a Fastify instance that its requests and replies are made with. */
interface FastifyInstance {
  readonly log: unknown;
  genReqId(raw: object): string;
}

type RequestClass = new (
  id: string,
  params: unknown,
  raw: object,
  query: unknown,
  log: unknown,
  context: object,
) => DetachedRequest;
type ReplyClass = new (raw: object, request: object, log: unknown) => Reply;

type CompiledSchemas = WeakMap<object, (payload: unknown) => string>;

interface Reply extends FastifyReply {
  compileSerializationSchema(schema: object, status: string): (payload: unknown) => string;
}

interface RouteSchema {
  readonly response?: Readonly<Record<string, ResponseSchema>>;
}
interface ResponseSchema {
  readonly content?: Readonly<Record<string, { readonly schema: object }>>;
}

/** Where Nest keeps what `@RouteConfig()` and `@RouteSchema()` say; part of the decorators' contract with its adapter. */
const ROUTE_CONFIG = '__fastify_route_config__';
const ROUTE_SCHEMA = '__fastify_route_schema__';

const ANSWERING = ['send', 'redirect', 'hijack', 'callNotFound', 'writeEarlyHints'];

/**
 * Requests and replies of the instance's own classes, with all that plugins decorated them with. Fastify makes them from
 * the route's context, which it gives to nobody: theirs is one that was made to look like it.
 *
 * @throws {Error} when the instance is of a Fastify that keeps its classes elsewhere.
 */
export function fastifyExchanges(application: unknown): OpenExchange {
  const instance = application as FastifyInstance;
  const Request = member(instance, 'fastify.Request') as RequestClass | undefined;
  const Reply = member(instance, 'fastify.Reply') as ReplyClass | undefined;
  if (!Request || !Reply) throw new Error('this version of Fastify keeps its request and reply unknown');
  // Fastify keeps them in the route's context, which here is made for each call.
  const compiled: CompiledSchemas = new WeakMap();
  return async (stored, handler) => {
    const raw = await openRaw(stored);
    const { refuse, close } = raw;
    Object.assign(raw.request, { originalUrl: stored.url });
    const context = contextOf(instance, handler, stored);
    const { params, query, body } = copyOf(stored);
    const { log } = instance;
    const request = new Request(instance.genReqId(raw.request), params, raw.request, query, log, context);
    request.body = body;
    const reply = new Reply(raw.response, request, log);
    refuse(reply, ANSWERING);
    // A reply is a promise of its being sent, which this one never is.
    const then = (_: unknown, reject?: (error: Error) => void): void =>
      reject?.(new DetachedReplyError('await reply'));
    define(reply, 'then', then);
    serialiseBySchema(reply, handler, compiled);
    return { request, response: reply, close };
  };
}

function contextOf(
  server: FastifyInstance,
  handler: RouteHandler,
  { method, url, pattern }: StoredRequest,
): object {
  const config = Reflect.getMetadata(ROUTE_CONFIG, handler) as object | undefined;
  const context = {
    server,
    // Without a url of the route Fastify takes the request for one that no route serves.
    config: { ...config, method, url: pattern ?? url.split('?', 1)[0] },
    schema: Reflect.getMetadata(ROUTE_SCHEMA, handler) as RouteSchema | undefined,
    _parserOptions: { limit: null },
  };
  const symbol = symbolOf(server, 'fastify.replySerializerDefault');
  // That of `setReplySerializer()`, which is looked for in the route's context.
  if (symbol) Reflect.set(context, symbol, Reflect.get(server, symbol));
  return context;
}

/** `reply.serialize()` with the route's response schemas, which leave out what they do not name. */
function serialiseBySchema(reply: Reply, handler: RouteHandler, compiled: CompiledSchemas): void {
  const schemas = (Reflect.getMetadata(ROUTE_SCHEMA, handler) as RouteSchema | undefined)?.response;
  if (!schemas) return;
  const plain = reply.serialize.bind(reply);
  const serialize = (payload: unknown): string | Uint8Array | undefined => {
    if (hasOwnSerializer(reply)) return plain(payload);
    const { statusCode } = reply.raw;
    const found = schemaFor(schemas, statusCode, headerOf(reply, 'content-type'));
    if (!found) return plain(payload);
    const serializer = compiled.get(found) ?? reply.compileSerializationSchema(found, String(statusCode));
    compiled.set(found, serializer);
    return serializer(payload);
  };
  define(reply, 'serialize', serialize);
}

/** By status, by class of status as `2xx`, or the default; by media type where the schema tells them apart. */
function schemaFor(
  schemas: NonNullable<RouteSchema['response']>,
  status: number,
  contentType: string | undefined,
): object | undefined {
  const byStatus = new Map(Object.entries(schemas).map(([name, schema]) => [name.toLowerCase(), schema]));
  const schema =
    byStatus.get(String(status)) ?? byStatus.get(`${Math.trunc(status / 100)}xx`) ?? byStatus.get('default');
  if (!schema?.content) return schema;
  const type = parseMediaType(contentType)?.type ?? 'application/json';
  return (schema.content[type] ?? schema.content['*/*'])?.schema;
}

/** Fastify keeps what it needs under symbols that it does not export. */
function symbolOf(owner: object, description: string): symbol | undefined {
  return Object.getOwnPropertySymbols(owner).find((symbol) => symbol.description === description);
}

function member(owner: object, description: string): unknown {
  const symbol = symbolOf(owner, description);
  return symbol && Reflect.get(owner, symbol);
}

function define(target: object, name: string, value: unknown): void {
  Object.defineProperty(target, name, { value });
}
