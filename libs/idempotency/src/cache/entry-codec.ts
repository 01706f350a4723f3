import { packResponse, unpackResponse } from '../sealing/sealed-response.js';
import type { Sealing } from '../store/response-columns.js';
import type { CachedOutcome } from './local-cache.js';

/** What a shared cache says of a record. */
export type CacheEntry =
  | ({ readonly kind: 'final' } & CachedOutcome)
  /** A hint: somebody was executing it, and says so again before this expires. */
  | { readonly kind: 'in-flight'; readonly fingerprint: Buffer; readonly expiresAtMs: number }
  /** A person has erased it: nothing that was read before may be put here again. */
  | { readonly kind: 'erased' };

const FINAL = 1;
const IN_FLIGHT = 2;
const ERASED = 3;

const FINGERPRINT_BYTES = 32;
const EXPIRES_AT = 1 + FINGERPRINT_BYTES;
const RAISED_AT = EXPIRES_AT + 8;
const STATUS_AT = RAISED_AT + 1;
const RESPONSE_AT = STATUS_AT + 2;

/**
 * Entries as a shared cache keeps them: sealed, so that nobody who can write to the cache can have anything replayed, and
 * nobody who can read it learns an answer. A seal opens for the record it was made for, in the table it was made for, and
 * for nothing else.
 */
export class EntryCodec {
  /** @param space names the table: records of two tables may have equal key hashes. */
  constructor(
    private readonly sealing: Sealing,
    private readonly space: string,
  ) {}

  encode(keyHash: Buffer, entry: CacheEntry): Buffer {
    return this.sealing.seal(plainOf(entry), this.#place(keyHash));
  }

  /** @throws when it was not sealed for this record with a key at hand, or is cut short. */
  decode(keyHash: Buffer, sealed: Uint8Array): CacheEntry {
    return entryOf(this.sealing.open(sealed, this.#place(keyHash)));
  }

  #place(keyHash: Buffer) {
    return { keyHash, purpose: 'cache', name: this.space } as const;
  }
}

function plainOf(entry: CacheEntry): Buffer {
  if (entry.kind === 'erased') return Buffer.of(ERASED);
  const head = Buffer.alloc(entry.kind === 'final' ? RESPONSE_AT : RAISED_AT);
  head.writeUInt8(entry.kind === 'final' ? FINAL : IN_FLIGHT);
  entry.fingerprint.copy(head, 1);
  head.writeDoubleBE(entry.expiresAtMs, EXPIRES_AT);
  if (entry.kind === 'in-flight') return head;
  head.writeUInt8(entry.raised ? 1 : 0, RAISED_AT);
  head.writeUInt16BE(entry.response.status, STATUS_AT);
  return Buffer.concat([head, packResponse(entry.response)]);
}

function entryOf(plain: Buffer): CacheEntry {
  const [kind] = plain;
  if (kind === ERASED) return { kind: 'erased' };
  if (kind !== FINAL && kind !== IN_FLIGHT) throw new Error('an entry of the cache is of an unknown kind');
  const fingerprint = Buffer.from(plain.subarray(1, EXPIRES_AT));
  const expiresAtMs = plain.readDoubleBE(EXPIRES_AT);
  if (kind === IN_FLIGHT) return { kind: 'in-flight', fingerprint, expiresAtMs };
  const raised = plain.readUInt8(RAISED_AT) === 1;
  const status = plain.readUInt16BE(STATUS_AT);
  const response = { status, ...unpackResponse(plain.subarray(RESPONSE_AT)) };
  return { kind: 'final', fingerprint, expiresAtMs, raised, response };
}
