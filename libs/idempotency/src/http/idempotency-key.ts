import type { IncomingHttpHeaders } from 'node:http';
import { parseItem } from 'structured-headers';
import type { KeyFormat } from '../idempotency.options.js';

/** What the key header of a request says. */
export type KeyReading =
  | { readonly kind: 'missing' }
  /** `reason` is a whole sentence for the caller. It never repeats what was sent. */
  | { readonly kind: 'invalid'; readonly reason: string }
  /** The key itself, without the quotes and escapes of a Structured-Field String. */
  | { readonly kind: 'key'; readonly key: string };

/** The headers of an Express request, or of a Fastify request with its raw one. */
export interface KeyCarrier {
  readonly headers: IncomingHttpHeaders;
  /** Names and values in turn, as they were sent. */
  readonly rawHeaders?: readonly string[];
  readonly raw?: { readonly rawHeaders?: readonly string[] };
}

/** Longest key, in characters. */
export const MAX_KEY_LENGTH = 255;

const invalid = (reason: string): KeyReading => ({ kind: 'invalid', reason });

/**
 * Reads the idempotency key from the header `headerName` (any case).
 *
 * A value that begins with `"` is a Structured-Field String (draft-ietf-httpapi-idempotency-key-header-07, section 2.1;
 * RFC 9651, section 3.3.3); any other is the bare key, as most clients send it. Quoted and bare, one value is one key.
 * A key has 1 to 255 printable ASCII characters (0x20 to 0x7e), at least one of them not a space.
 *
 * Fail closed: an empty header, two headers, or a bare value with a comma, which may be two headers joined on the way,
 * is invalid and never taken for "no key", which could run unprotected.
 */
export function readIdempotencyKey(request: KeyCarrier, headerName: string): KeyReading {
  const name = headerName.toLowerCase();
  const value: string | string[] | undefined = request.headers[name];
  if (value === undefined) return { kind: 'missing' };
  // Node joins repeated headers to one value; only `rawHeaders` still tells them apart.
  if (
    timesSent(name, (request.raw ?? request).rawHeaders) > 1 ||
    (Array.isArray(value) && value.length > 1)
  ) {
    return invalid(`The ${headerName} header is sent more than once.`);
  }
  const field = trimWhitespace(Array.isArray(value) ? (value[0] ?? '') : value);
  if (field === '') return invalid(`The ${headerName} header is empty.`);
  return field.startsWith('"') ? readQuoted(field, headerName) : readBare(field, headerName);
}

function timesSent(name: string, rawHeaders: readonly string[] = []): number {
  let times = 0;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const sent = rawHeaders[index] as string;
    if (sent.length === name.length && sent.toLowerCase() === name) times++;
  }
  return times;
}

function readQuoted(field: string, headerName: string): KeyReading {
  let item: ReturnType<typeof parseItem>;
  try {
    item = parseItem(field);
  } catch {
    return invalid(
      `The ${headerName} header begins with a quote but is not a Structured-Field String (RFC 9651).`,
    );
  }
  const [key, parameters] = item;
  if (parameters.size > 0)
    return invalid(`The ${headerName} header carries parameters, which have no meaning there.`);
  return checked(String(key), headerName);
}

function readBare(field: string, headerName: string): KeyReading {
  if (field.includes(',')) {
    return invalid(
      `The ${headerName} header contains a comma outside quotes: an intermediary may have joined two headers. ` +
        'Send one key; a key with a comma in it must be quoted.',
    );
  }
  return checked(field, headerName);
}

function checked(key: string, headerName: string): KeyReading {
  if (key === '') return invalid(`The ${headerName} header holds an empty key.`);
  if (key.length > MAX_KEY_LENGTH) {
    return invalid(`The idempotency key is longer than ${MAX_KEY_LENGTH} characters.`);
  }
  if (!/^[\x20-\x7e]*$/.test(key)) {
    return invalid('The idempotency key holds a character outside printable ASCII (0x20 to 0x7e).');
  }
  if (/^ *$/.test(key)) return invalid('The idempotency key consists of spaces.');
  return { kind: 'key', key };
}

/** Whitespace around a field value is not part of it (RFC 9110, section 5.5); Node removes it, other hosts may not. */
function trimWhitespace(value: string): string {
  return value.replace(/^[ \t]+/, '').replace(/[ \t]+$/, '');
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i;
const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i;

/**
 * Whether a key has the format a route asks for. `'uuid'` takes every version of RFC 9562, but not the nil and max
 * UUIDs, which are constants. A RegExp is tested from the start of the key, whatever its `lastIndex`.
 *
 * Fail closed: a predicate accepts by returning `true`; anything else refuses, a promise too.
 */
export function matchesKeyFormat(key: string, format: KeyFormat): boolean {
  if (format === 'uuid') return UUID.test(key);
  if (format === 'uuidv7') return UUID_V7.test(key);
  // A copy: `g` and `y` keep a position in the expression, so that every other test of one key would fail.
  if (format instanceof RegExp) return new RegExp(format.source, format.flags).test(key);
  const verdict: unknown = format(key);
  return verdict === true;
}
