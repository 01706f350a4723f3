/** A result in bytes, as the journal keeps it. */
export interface EncodedResult {
  /** `null`: nothing was returned. */
  readonly contentType: 'application/json' | 'application/octet-stream' | null;
  readonly body: Buffer;
}

/** Turns errors that a step declares final into JSON and back, so that each attempt is thrown the same. */
export interface ErrorCodec {
  encode(error: unknown): unknown;
  /** @param cause the error itself, where it is at hand. */
  decode(encoded: unknown, cause?: unknown): Error;
}

/**
 * A step's result in bytes: bytes as they are, everything else as JSON.
 *
 * @throws {TypeError} for what JSON cannot express: a bigint, a circle, a function.
 */
export function encodeResult(value: unknown): EncodedResult {
  if (value === undefined) return { contentType: null, body: Buffer.alloc(0) };
  if (value instanceof Uint8Array) {
    return { contentType: 'application/octet-stream', body: Buffer.from(value) };
  }
  const json = JSON.stringify(value) as string | undefined;
  if (json === undefined) throw new TypeError(`a ${typeof value} cannot be journaled: return JSON or bytes`);
  return { contentType: 'application/json', body: Buffer.from(json, 'utf8') };
}

export function decodeResult({ contentType, body }: { contentType: string | null; body: Buffer }): unknown {
  switch (contentType) {
    case null:
      return undefined;
    case 'application/json':
      return JSON.parse(body.toString('utf8'));
    default:
      // A copy of its own: the handler may write into it.
      return Buffer.from(body);
  }
}
