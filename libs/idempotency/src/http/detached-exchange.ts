import { once } from 'node:events';
import { IncomingMessage, type IncomingHttpHeaders, ServerResponse } from 'node:http';
import { Socket } from 'node:net';

/** What is kept of a request so that its handler can be called again. */
export interface StoredRequest {
  /** Class and method, as `CheckoutController.checkout`. */
  readonly route: string;
  readonly method: string;
  /** Path and query as the client sent them. */
  readonly url: string;
  /** What the platform calls the route, as `/carts/:userId/items`: `route.path` of Express, `routeOptions.url` of Fastify. */
  readonly pattern?: string;
  readonly params: Readonly<Record<string, string>>;
  /** The parsed query, as plain JSON. */
  readonly query: unknown;
  /** By lower-case name; only what may be stored. */
  readonly headers: Readonly<Record<string, string>>;
  /** The parsed body: JSON, text or a Buffer. */
  readonly body?: unknown;
}

/** The platform's own request object, made of a stored one: what was not stored can be put back on it. */
export interface DetachedRequest extends Record<string, unknown> {
  readonly method: string;
  readonly originalUrl: string;
  readonly headers: IncomingHttpHeaders;
  params: Record<string, string>;
  query: unknown;
  body?: unknown;
  user?: unknown;
}

/** Request and response of a call without a client. */
export interface DetachedExchange {
  readonly request: DetachedRequest;
  /** Takes a status and headers, as the platform's own does; refuses to be sent. */
  readonly response: object;
  /** Closes the connection; the response emits `close`. */
  readonly close: () => void;
}

/** The method of a controller; its metadata tells what the platform was told about the route. */
export type RouteHandler = (...args: never[]) => unknown;

/** Makes exchanges as one application makes them. */
export type OpenExchange = (stored: StoredRequest, handler: RouteHandler) => Promise<DetachedExchange>;

/** A handler, or something around it, tried to answer by itself where no client waits for an answer. */
export class DetachedReplyError extends Error {
  constructor(operation: string) {
    super(
      `${operation}() has no client to answer: this request is completed in the background. Return the body instead.`,
    );
    this.name = 'DetachedReplyError';
  }
}

/** The two ends of an exchange as `node:http` has them, on a socket that was never connected. */
export interface RawExchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Makes methods of one of the ends, or of what stands on it, fail: they would send an answer. */
  readonly refuse: (target: object, methods: readonly string[]) => void;
  readonly close: () => void;
}

/** Everything that puts bytes on the wire. */
const SENDING = ['end', 'write', 'writeHead', 'flushHeaders', 'writeContinue', 'writeProcessing'];

export async function openRaw({ method, url, headers }: StoredRequest): Promise<RawExchange> {
  const socket = new Socket();
  const request = new IncomingMessage(socket);
  Object.assign(request, { method, url, httpVersion: '1.1', httpVersionMajor: 1, httpVersionMinor: 1 });
  request.headers = { ...headers };
  request.rawHeaders = Object.entries(headers).flat();
  // Read to its end and closed, as a body parser leaves it.
  request.complete = true;
  request.push(null);
  request.resume();
  await once(request, 'close');
  const response = new ServerResponse(request);
  response.assignSocket(socket);
  let closed = false;
  const refuse = (target: object, methods: readonly string[]): void => {
    for (const name of methods) {
      const refused = (): object => {
        // Like a client that has gone: what is late is dropped. Thrown from a timer it would end the process.
        if (closed) return target;
        throw new DetachedReplyError(name);
      };
      Object.defineProperty(target, name, { value: refused, configurable: true, writable: true });
    }
  };
  refuse(response, SENDING);
  response.on('pipe', (source) => {
    // Before its first chunk arrives: an error thrown then would be nobody's.
    source.unpipe(response);
    if (!closed) throw new DetachedReplyError('pipe');
  });
  const close = (): void => {
    closed = true;
    socket.destroy();
  };
  return { request, response, refuse, close };
}

/** What one call does to its copy changes neither the stored request nor another call. */
export function copyOf(stored: StoredRequest): Pick<DetachedRequest, 'params' | 'query' | 'body'> {
  const { params, query, body } = stored;
  return {
    params: { ...params },
    query: structuredClone(query),
    // A structured clone of a Buffer is a Uint8Array.
    body: Buffer.isBuffer(body) ? Buffer.from(body) : structuredClone(body),
  };
}
