import { types } from 'node:util';
import { Readable } from 'node:stream';

/** What a handler may return to be sent as it is produced, beside a `StreamableFile`. */
export type StreamingBody = AsyncIterable<unknown> | Response;

/** A stream being read: `next` until done, `return` to give it up. */
export interface OpenBody {
  next(): Promise<IteratorResult<unknown>>;
  return(): Promise<unknown>;
}

export function isWebResponse(value: unknown): value is Response {
  return Object.prototype.toString.call(value) === '[object Response]';
}

/**
 * Whether Nest streams a value: an async iterable (a generator, a Readable, a ReadableStream) or a web `Response`. One
 * that is a thenable as well, as a lazy query, stands for what it resolves to.
 */
export function isStreamingBody(value: unknown): value is StreamingBody {
  if (isWebResponse(value)) return true;
  if (typeof value !== 'object' || value === null || !(Symbol.asyncIterator in value)) return false;
  return (
    typeof value[Symbol.asyncIterator] === 'function' &&
    !('then' in value && typeof value.then === 'function')
  );
}

/** Opens a body as Nest does. A `ReadableStream` is read through its reader, so that giving it up cancels it. */
export function openBody(source: AsyncIterable<unknown>): OpenBody {
  if (isReadableStream(source)) {
    const reader = source.getReader();
    return {
      next: async () => reader.read() as Promise<IteratorResult<unknown>>,
      return: () => reader.cancel(),
    };
  }
  const iterator = source[Symbol.asyncIterator]();
  return {
    next: async () => iterator.next(),
    return: async () => iterator.return?.(),
  };
}

// It takes every stream, of Node or of the web, and anything else, whatever its type says.
const streams: { isDisturbed(source: unknown): boolean } = Readable;

/** Whether something has read the body already; of a generator only itself knows. */
export function isConsumed(source: AsyncIterable<unknown>): boolean {
  if (isReadableStream(source) && source.locked) return true;
  return streams.isDisturbed(source) && !(source instanceof Readable && source.errored);
}

function isReadableStream(source: object): source is ReadableStream<unknown> {
  return 'getReader' in source && typeof source.getReader === 'function';
}

/** One chunk as the bytes Nest writes for it: text and bytes as they are, anything else as a line of JSON. */
export function chunkBytes(chunk: unknown): Buffer {
  if (typeof chunk === 'string') return Buffer.from(chunk);
  if (ArrayBuffer.isView(chunk)) return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  if (types.isAnyArrayBuffer(chunk)) return Buffer.from(chunk);
  // Undefined for a value that JSON leaves out, which the type of JSON.stringify does not say.
  const json = JSON.stringify(chunk) as string | undefined;
  return Buffer.from(json === undefined ? '' : `${json}\n`);
}

/** The content type Nest infers from the first chunk of a stream that names none. */
export function inferContentType(firstChunk: unknown): string {
  if (typeof firstChunk === 'string') return 'text/plain; charset=utf-8';
  return ArrayBuffer.isView(firstChunk) || types.isAnyArrayBuffer(firstChunk)
    ? 'application/octet-stream'
    : 'application/x-ndjson';
}

/** What reading ahead came to. */
export type ReadAhead =
  | { readonly kind: 'whole'; readonly body: Buffer; readonly chunks: readonly unknown[] }
  /** Over the limit: `all` yields what was read and then the rest. */
  | { readonly kind: 'over-limit'; readonly all: AsyncIterable<unknown> };

/**
 * Reads a body to its end, or until it is over `maxBytes`.
 *
 * @throws what the stream fails with; it is given up then
 */
export async function readAhead(
  open: OpenBody,
  maxBytes: number,
  toBytes: (chunk: unknown) => Buffer,
): Promise<ReadAhead> {
  const chunks: unknown[] = [];
  const bytes: Buffer[] = [];
  let size = 0;
  try {
    for (let next = await open.next(); !next.done; next = await open.next()) {
      const read = toBytes(next.value);
      chunks.push(next.value);
      bytes.push(read);
      size += read.byteLength;
      if (size > maxBytes) return { kind: 'over-limit', all: resumed(chunks, open) };
    }
  } catch (error) {
    // Not awaited: a stream that has failed may never answer.
    open.return().catch(() => undefined);
    throw error;
  }
  return { kind: 'whole', body: Buffer.concat(bytes), chunks };
}

function resumed(chunks: unknown[], open: OpenBody): AsyncIterable<unknown> {
  return {
    [Symbol.asyncIterator]: () => ({
      next: async () => (chunks.length > 0 ? { done: false, value: chunks.shift() } : open.next()),
      return: async () => {
        await open.return();
        return { done: true, value: undefined };
      },
    }),
  };
}

/** Headers that `fetch()` leaves on its answer and that speak of the connection it came over. */
const HOP_BY_HOP = [
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
];

/**
 * The headers Nest sends for a web `Response`, without its cookies. One that came from `fetch()` has its body decoded,
 * while its headers still speak of the encoded one.
 */
export function webResponseHeaders(response: Response): ReadonlyMap<string, string> {
  const isFetched = response.type !== 'default';
  const isDecoded = isFetched && response.headers.has('content-encoding');
  const headers = new Map<string, string>();
  response.headers.forEach((value, name) => {
    const isDropped =
      name === 'set-cookie' ||
      (isFetched && HOP_BY_HOP.includes(name)) ||
      (isDecoded && (name === 'content-encoding' || name === 'content-length'));
    if (!isDropped) headers.set(name, value);
  });
  return headers;
}
