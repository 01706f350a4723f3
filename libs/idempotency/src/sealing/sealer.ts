import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createSecretKey,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from 'node:crypto';

/** Where a sealed value belongs. It opens there and nowhere else. */
export interface SealContext {
  /** Primary key of the record. */
  readonly keyHash: Buffer;
  readonly purpose: 'response' | 'request' | 'step' | 'cache';
  /** Name of the step, or of the cache's space; `''`, or left out, for what a record has once. */
  readonly name?: string;
}

const MESSAGES = {
  'unknown-key':
    'A sealed value does not open: its key is not among the sealing keys. ' +
    'Put the retired key back behind the current one, until the last record sealed with it has expired.',
  damaged:
    'A sealed value does not open: it was changed, cut short or moved to another place, or this version of the ' +
    'library does not know its format. Restore its record from a backup. ' +
    'Do not delete the record instead: a retry would run the handler again.',
} as const;

/**
 * A sealed value that cannot be opened. Nothing of it was handed out. The message says what to do, and names neither
 * keys nor content.
 */
export class SealError extends Error {
  readonly reason: 'unknown-key' | 'damaged';

  constructor(reason: 'unknown-key' | 'damaged') {
    super(MESSAGES[reason]);
    this.name = 'SealError';
    this.reason = reason;
  }
}

/** Length of a master key, in bytes. */
export const SEALING_KEY_BYTES = 32;

// Layout: version | key id | nonce | ciphertext | tag.
const VERSION = 1;
const KEY_ID_AT = 1;
const NONCE_AT = 5;
const CIPHERTEXT_AT = 17;
const TAG_BYTES = 16;

/** What sealing adds to the length of a value, in bytes. */
export const SEAL_OVERHEAD_BYTES = CIPHERTEXT_AT + TAG_BYTES;

const CIPHER = 'aes-256-gcm';
const KEY_ID_PREFIX = 'nestjs-pg-idempotency/sealing-key-id/';

interface MasterKey {
  /** First bytes of a hash of the key: names it, and says nothing about it. */
  readonly id: Buffer;
  readonly secret: KeyObject;
}

/** Encrypts what records keep of requests and answers: AES-256-GCM under a key of the record's own. */
export class Sealer {
  readonly #current: MasterKey;
  readonly #keys: readonly MasterKey[];

  /**
   * @param keys 32 bytes each, copied. The first seals, all open: a new key goes to the front, and the one it replaces
   * stays behind it until what it sealed has expired.
   * @throws {TypeError} without a key, or with one of another length
   */
  constructor(keys: readonly Buffer[]) {
    this.#keys = keys.map(masterKey);
    const [current] = this.#keys;
    if (!current) throw new TypeError('A Sealer needs at least one key.');
    this.#current = current;
  }

  /** The sealed value, `SEAL_OVERHEAD_BYTES` longer than `plain`; a different one on every call. */
  seal(plain: Uint8Array, context: SealContext): Buffer {
    const nonce = randomBytes(CIPHERTEXT_AT - NONCE_AT);
    const cipher = createCipheriv(CIPHER, recordKey(this.#current, context), nonce, {
      authTagLength: TAG_BYTES,
    });
    cipher.setAAD(associatedData(context));
    const ciphertext = cipher.update(plain);
    return Buffer.concat([
      Buffer.of(VERSION),
      this.#current.id,
      nonce,
      ciphertext,
      cipher.final(),
      cipher.getAuthTag(),
    ]);
  }

  /**
   * What was sealed, if it was sealed in this context with one of the keys.
   *
   * @throws {SealError} `unknown-key` when it names a key that is not here; `damaged` when it was changed, cut short,
   * sealed in another context, or has another format
   */
  open(sealed: Uint8Array, context: SealContext): Buffer {
    if (sealed.byteLength < SEAL_OVERHEAD_BYTES || sealed[0] !== VERSION) throw new SealError('damaged');
    const id = sealed.subarray(KEY_ID_AT, NONCE_AT);
    const candidates = this.#keys.filter((key) => key.id.equals(id));
    if (candidates.length === 0) throw new SealError('unknown-key');
    // Nearly always one. Two keys with one id are rare, but rotation must not break on them.
    for (const key of candidates) {
      const plain = openWith(key, sealed, context);
      if (plain) return plain;
    }
    throw new SealError('damaged');
  }
}

function masterKey(key: Buffer): MasterKey {
  if (key.byteLength !== SEALING_KEY_BYTES)
    throw new TypeError(`A sealing key has ${SEALING_KEY_BYTES} bytes, not ${key.byteLength}.`);
  const digest = createHash('sha256').update(KEY_ID_PREFIX).update(key).digest();
  // A KeyObject shows nothing when it is logged.
  return { id: digest.subarray(0, NONCE_AT - KEY_ID_AT), secret: createSecretKey(key) };
}

/**
 * Random nonces of 12 bytes may collide after some 2^32 values under one key, and a collision would give both values
 * away. Each record and purpose has a key of its own, under which few values are ever sealed, so the number of records
 * never matters.
 */
function recordKey(master: MasterKey, { keyHash, purpose }: SealContext): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', master.secret, keyHash, purpose, 32));
}

/** Version and context, each part after its length, so that parts cannot run together. */
function associatedData({ purpose, keyHash, name = '' }: SealContext): Buffer {
  // UTF-16 for the name: UTF-8 would make one of names that differ in a lone surrogate.
  const parts = [Buffer.from(purpose), keyHash, Buffer.from(name, 'utf16le')];
  const prefixed = parts.flatMap((part) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(part.byteLength);
    return [length, part];
  });
  return Buffer.concat([Buffer.of(VERSION), ...prefixed]);
}

/** `undefined` when the tag does not match. */
function openWith(key: MasterKey, sealed: Uint8Array, context: SealContext): Buffer | undefined {
  const tagAt = sealed.byteLength - TAG_BYTES;
  const nonce = sealed.subarray(NONCE_AT, CIPHERTEXT_AT);
  const decipher = createDecipheriv(CIPHER, recordKey(key, context), nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(associatedData(context));
  decipher.setAuthTag(sealed.subarray(tagAt));
  const plain = decipher.update(sealed.subarray(CIPHERTEXT_AT, tagAt));
  try {
    // Checks the tag, and for GCM has no bytes to add.
    decipher.final();
  } catch {
    return undefined;
  }
  return plain;
}
