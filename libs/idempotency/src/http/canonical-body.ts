import { types } from 'node:util';
import canonicalizeModule from 'canonicalize';
import { describe } from '../errors/describe.js';

// The package is CommonJS: its default import is the function, which its types place one level deeper.
const canonicalize = canonicalizeModule as unknown as typeof canonicalizeModule.default;

/** Deepest nesting of a body that is compared. Parsers accept more; recursion over it would end the process. */
export const MAX_BODY_DEPTH = 1000;

/**
 * The body of a request, or what the `fingerprint` option returned, cannot be compared with that of a retry.
 * Nothing ran. The message says what to do.
 */
export class UnfingerprintableBodyError extends Error {
  constructor(problem: string, options?: ErrorOptions) {
    super(
      `What a retry must repeat cannot be compared: ${problem}. ` +
        'Return JSON, a string or a Buffer from the `fingerprint` option, made of what identifies the request.',
      options,
    );
    this.name = 'UnfingerprintableBodyError';
  }
}

/** The bytes that stand for a body, and what they are: equal bytes of two kinds are two bodies. */
export interface CanonicalBody {
  readonly tag: 'none' | 'json' | 'text' | 'bytes';
  readonly bytes: string | Uint8Array;
}

/**
 * A body as bytes that are equal for equal bodies: JSON in canonical form (RFC 8785), text and bytes as they are.
 *
 * Fail closed: a value that JSON would drop or blur (a Map, a promise, NaN) is refused, since two different ones would
 * be taken for one request.
 *
 * @throws UnfingerprintableBodyError
 */
export function canonicalBody(body: unknown): CanonicalBody {
  if (body === undefined) return { tag: 'none', bytes: '' };
  if (typeof body === 'string') return { tag: 'text', bytes: body };
  if (ArrayBuffer.isView(body)) {
    return { tag: 'bytes', bytes: new Uint8Array(body.buffer, body.byteOffset, body.byteLength) };
  }
  try {
    refuseInexpressible(body);
    return { tag: 'json', bytes: canonicalize(body) ?? '' };
  } catch (cause) {
    if (cause instanceof UnfingerprintableBodyError) throw cause;
    throw new UnfingerprintableBodyError('it cannot be written as JSON', { cause });
  }
}

/** Walks the body with a list of its own, so that its depth cannot exhaust the call stack. */
function refuseInexpressible(body: unknown): void {
  const open: { value: unknown; depth: number }[] = [{ value: body, depth: 1 }];
  for (let next = open.pop(); next; next = open.pop()) {
    const { depth } = next;
    if (depth > MAX_BODY_DEPTH) {
      throw new UnfingerprintableBodyError(
        `it is nested more than ${MAX_BODY_DEPTH} levels deep, or in a circle`,
      );
    }
    const value = hasToJSON(next.value) ? next.value.toJSON() : next.value;
    if (!isExpressible(value)) throw new UnfingerprintableBodyError(`it holds ${describeKind(value)}`);
    if (typeof value !== 'object' || value === null) continue;
    for (const member of Object.values(value)) {
      if (member !== undefined) open.push({ value: member, depth: depth + 1 });
    }
  }
}

function isExpressible(value: unknown): boolean {
  switch (typeof value) {
    case 'string':
    case 'boolean':
    case 'undefined':
      return true;
    case 'number':
      return Number.isFinite(value);
    case 'bigint':
    case 'symbol':
    case 'function':
      return false;
    case 'object':
      return value === null || !isOpaque(value);
  }
}

/** Objects whose content is not in their members: JSON would write each of them as `{}`. */
function isOpaque(value: object): boolean {
  return (
    types.isMap(value) ||
    types.isSet(value) ||
    types.isWeakMap(value) ||
    types.isWeakSet(value) ||
    types.isRegExp(value) ||
    types.isBoxedPrimitive(value) ||
    types.isAnyArrayBuffer(value) ||
    types.isNativeError(value) ||
    ('then' in value && typeof value.then === 'function') ||
    Symbol.asyncIterator in value ||
    (Symbol.iterator in value && !Array.isArray(value) && !ArrayBuffer.isView(value))
  );
}

function hasToJSON(value: unknown): value is { toJSON(): unknown } {
  return (
    typeof value === 'object' && value !== null && 'toJSON' in value && typeof value.toJSON === 'function'
  );
}

/** Names the kind of a value, never its content, which may be a caller's secret. */
function describeKind(value: unknown): string {
  if (typeof value === 'number') return describe(value);
  if (typeof value !== 'object') return `a ${typeof value}`;
  return `a ${value?.constructor?.name ?? 'value'}`;
}
