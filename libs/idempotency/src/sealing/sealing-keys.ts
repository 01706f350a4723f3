import { SEALING_KEY_BYTES } from './sealer.js';

/** The keys as bytes, in the order given; or what is wrong with the setting and what to write instead. */
export type ParsedSealingKeys = { readonly keys: readonly Buffer[] } | { readonly problem: string };

/** More keys than any rotation needs: opening stays quick, and a list made by mistake is noticed. */
export const MAX_SEALING_KEYS = 16;

const FORMS = `${SEALING_KEY_BYTES} random bytes, or a text of them in hex, base64 or base64url`;

/**
 * Reads the setting for sealing keys: 1 to 16 different keys, the current one first. Each is a `Buffer` or `Uint8Array`
 * of 32 bytes, 64 hex digits, or 32 bytes in base64 or base64url, with or without padding. White space is not skipped.
 *
 * Never throws, and `problem` holds nothing of a key. Whoever words an error from it must not show the value received.
 */
export function parseSealingKeys(value: unknown): ParsedSealingKeys {
  if (!Array.isArray(value) || value.length === 0 || value.length > MAX_SEALING_KEYS)
    return { problem: `use an array of 1 to ${MAX_SEALING_KEYS} keys, the current one first` };
  const keys: Buffer[] = [];
  for (const [index, item] of (value as unknown[]).entries()) {
    const place = `key ${index + 1} of ${value.length}`;
    const key = keyBytes(item);
    if (!key) return { problem: `${place} is ${shapeOf(item)}: use ${FORMS}` };
    // What a buffer holds that was allocated and never filled.
    if (key.every((byte) => byte === 0)) return { problem: `${place} is all zeros: use ${FORMS}` };
    const twin = keys.findIndex((other) => other.equals(key));
    if (twin !== -1) return { problem: `${place} is the same as key ${twin + 1}: name each key once` };
    keys.push(key);
  }
  return { keys };
}

/** A copy of the key's bytes, `undefined` when it is none. */
function keyBytes(item: unknown): Buffer | undefined {
  if (isBytes(item)) return item.byteLength === SEALING_KEY_BYTES ? Buffer.from(item) : undefined;
  if (typeof item !== 'string') return undefined;
  if (/^[\da-f]{64}$/i.test(item)) return Buffer.from(item, 'hex');
  return base64Bytes(item, 'base64') ?? base64Bytes(item, 'base64url');
}

/**
 * Node skips what it cannot decode, so that a mistyped key would silently become another one: only a text that the bytes
 * are written as again is taken.
 */
function base64Bytes(text: string, encoding: 'base64' | 'base64url'): Buffer | undefined {
  const bytes = Buffer.from(text, encoding);
  if (bytes.byteLength !== SEALING_KEY_BYTES) return undefined;
  const unpadded = bytes.toString(encoding).replace(/=$/, '');
  return text === unpadded || text === `${unpadded}=` ? bytes : undefined;
}

/** A `Buffer` is none of the `Uint8Array` of a test runner's own realm. */
const isBytes = (item: unknown): item is Uint8Array => Buffer.isBuffer(item) || item instanceof Uint8Array;

/** Says what was found by its kind and length alone. */
function shapeOf(item: unknown): string {
  if (isBytes(item)) return `${item.byteLength} bytes long`;
  if (typeof item === 'string') return `a text of ${item.length} characters that is no key`;
  return 'neither bytes nor a text';
}
