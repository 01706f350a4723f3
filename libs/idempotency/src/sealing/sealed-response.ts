import type { StoredResponse } from '../store/record.js';
import { SealError } from './sealer.js';

/** What of a stored answer is sealed. Its status stays readable, for people and for queries. */
export type SealedPart = Pick<StoredResponse, 'headers' | 'body'>;

// Layout: marker | length of the headers | headers as JSON | body.
const TOMBSTONE = 0;
const WITH_BODY = 1;
const HEADERS_AT = 5;

/** Headers and body as one run of bytes, to be sealed together: neither can be exchanged without the other. */
export function packResponse({ headers, body }: SealedPart): Buffer {
  const json = Buffer.from(JSON.stringify(headers), 'utf8');
  const head = Buffer.alloc(HEADERS_AT);
  head.writeUInt8(body === null ? TOMBSTONE : WITH_BODY);
  head.writeUInt32BE(json.byteLength, 1);
  return Buffer.concat(body === null ? [head, json] : [head, json, body]);
}

/**
 * What was packed. The body shares its memory with `bytes`.
 *
 * @throws {SealError} `damaged` when the bytes were not made by {@link packResponse}: a replay is exact, or is none
 */
export function unpackResponse(bytes: Uint8Array): SealedPart {
  const packed = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (packed.byteLength < HEADERS_AT) throw new SealError('damaged');
  const marker = packed.readUInt8();
  const bodyAt = HEADERS_AT + packed.readUInt32BE(1);
  if (bodyAt > packed.byteLength) throw new SealError('damaged');
  const headers = headersFrom(packed.subarray(HEADERS_AT, bodyAt));
  const body = packed.subarray(bodyAt);
  if (marker === WITH_BODY) return { headers, body };
  if (marker === TOMBSTONE && body.byteLength === 0) return { headers, body: null };
  throw new SealError('damaged');
}

function headersFrom(json: Uint8Array): StoredResponse['headers'] {
  let headers: unknown;
  try {
    headers = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(json));
  } catch {
    // The error of JSON.parse quotes what it read, which is what sealing hides.
    throw new SealError('damaged');
  }
  if (!isHeaders(headers)) throw new SealError('damaged');
  return headers;
}

function isHeaders(value: unknown): value is Record<string, string> {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    Object.values(value).every((header) => typeof header === 'string')
  );
}
