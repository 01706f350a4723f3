import type { StoredRequest } from './detached-exchange.js';
import { patternOf } from './fingerprint.js';
import type { IdempotentRequest } from './request.js';

/** A body in JSON: bytes in base64, everything else as it is. */
type StoredBody = { readonly json: unknown } | { readonly bytes: string };

interface Stored extends Omit<StoredRequest, 'body'> {
  readonly body?: StoredBody;
}

/**
 * What a handler can be called again with, in bytes. `undefined` for a request that cannot be kept: its body is not JSON, text
 * or bytes.
 */
export function encodeRequest(
  request: IdempotentRequest,
  route: string,
  allowed: readonly string[],
): Buffer | undefined {
  const headers: Record<string, string> = {};
  for (const name of allowed) {
    const value = request.headers[name];
    if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(', ') : value;
  }
  const { method, originalUrl: url, params, query, body } = request;
  const pattern = patternOf(request);
  const stored: Stored = {
    route,
    method,
    url,
    ...(pattern === undefined ? {} : { pattern }),
    params: { ...params },
    query,
    headers,
    ...(body === undefined ? {} : { body: storedBody(body) }),
  };
  try {
    return Buffer.from(JSON.stringify(stored), 'utf8');
  } catch {
    return undefined;
  }
}

/** @throws {SyntaxError} for bytes that {@link encodeRequest} did not make. */
export function decodeRequest(bytes: Buffer): StoredRequest {
  const { body, ...rest } = JSON.parse(bytes.toString('utf8')) as Stored;
  if (body === undefined) return rest;
  return { ...rest, body: 'bytes' in body ? Buffer.from(body.bytes, 'base64') : body.json };
}

function storedBody(body: unknown): StoredBody {
  return body instanceof Uint8Array ? { bytes: Buffer.from(body).toString('base64') } : { json: body };
}
