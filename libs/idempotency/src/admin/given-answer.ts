import { validateHeaderName, validateHeaderValue } from 'node:http';
import type { StoredResponse } from '../store/record.js';

/** The answer that a person gives in a handler's place. It is replayed as it stands, whatever its status. */
export interface GivenAnswer {
  /** 200 to 599. A replay sends a 2xx as the route's `replayStatus` has it. */
  readonly status: number;
  /** Any that may be replayed: none with credentials, and none that describe one connection. */
  readonly headers?: Readonly<Record<string, string>>;
  /**
   * A text and bytes (`Buffer`) are sent as they are, everything else as JSON. Without a `content-type` in `headers` they
   * get the one of their kind. Left out: an answer without a body.
   */
  readonly body?: unknown;
}

/** Statuses whose answers have no body. */
const BODILESS: readonly number[] = [204, 205, 304];

interface EncodedBody {
  readonly bytes: Buffer;
  readonly contentType: string | undefined;
}

/**
 * The answer as it is stored.
 *
 * @param isNeverReplayed tells the headers that must not be stored.
 * @throws {RangeError} for a status that is none. {TypeError} for a header that may not be replayed or is no header, and for
 *   a body that JSON cannot express or that the status forbids.
 */
export function responseOf(
  { status, headers: given = {}, body }: GivenAnswer,
  isNeverReplayed: (name: string) => boolean,
): StoredResponse {
  if (!Number.isInteger(status) || status < 200 || status > 599) {
    throw new RangeError(`status ${String(status)}: use an integer from 200 to 599`);
  }
  if (BODILESS.includes(status) && body !== undefined) {
    throw new TypeError(`an answer of ${status} has no body: leave it out`);
  }
  const { bytes, contentType } = encoded(body);
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(given)) {
    validateHeaderName(name);
    if (typeof value !== 'string') throw new TypeError(`the header ${name} is a text`);
    validateHeaderValue(name, value);
    // Fail closed: what would be left out of the answer is not taken silently.
    if (isNeverReplayed(name)) throw new TypeError(`the header ${name} is never replayed: leave it out`);
    headers[name.toLowerCase()] = value;
  }
  if (contentType !== undefined) headers['content-type'] ??= contentType;
  return { status, headers, body: bytes };
}

function encoded(body: unknown): EncodedBody {
  if (body === undefined) return { bytes: Buffer.alloc(0), contentType: undefined };
  if (typeof body === 'string') {
    return { bytes: Buffer.from(body, 'utf8'), contentType: 'text/plain; charset=utf-8' };
  }
  if (body instanceof Uint8Array) {
    return { bytes: Buffer.from(body), contentType: 'application/octet-stream' };
  }
  const json = JSON.stringify(body) as string | undefined;
  if (json === undefined) throw new TypeError(`a ${typeof body} is no body: use JSON, a text or bytes`);
  return { bytes: Buffer.from(json, 'utf8'), contentType: 'application/json; charset=utf-8' };
}
