/** Which record: its hash in hexadecimal, as events name it, or what the client sent and under whose scope. */
export type RecordReference =
  | { readonly keyHash: string }
  | {
      readonly key: string;
      /** @default the scope of routes with `scope: false` and of callers without a user */
      readonly scope?: string;
      /** @default the module's namespace */
      readonly namespace?: string;
    };

/** What makes a key one of its kind. */
export interface ReferencedKey {
  readonly namespace: string;
  readonly scope: string;
  readonly key: string;
}

/**
 * The primary key that a reference speaks of.
 *
 * @throws {TypeError} for what is neither a hash nor a key.
 */
export function keyHashOf(
  reference: RecordReference,
  namespace: string,
  hashOf: (key: ReferencedKey) => Buffer,
): Buffer {
  if ('keyHash' in reference) return hashFrom(reference.keyHash);
  const named = { namespace, scope: '', ...reference };
  // Fail closed: a number would hash to another record, or to none.
  for (const part of ['namespace', 'scope', 'key'] as const) {
    if (typeof named[part] !== 'string') throw new TypeError(`the ${part} of a record is a text`);
  }
  if (named.key === '') throw new TypeError('the key of a record is never empty');
  return hashOf(named);
}

/** @throws {TypeError} unless it is 64 hexadecimal digits. */
export function hashFrom(hex: string): Buffer {
  if (typeof hex !== 'string' || !/^[0-9a-f]{64}$/i.test(hex)) {
    throw new TypeError('the hash of a record has 64 hexadecimal digits');
  }
  return Buffer.from(hex, 'hex');
}
