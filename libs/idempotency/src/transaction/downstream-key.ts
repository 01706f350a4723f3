import { createHash } from 'node:crypto';

/** What makes a downstream key: the life of a record, and what the key is for. */
export interface DownstreamKeyParts {
  readonly keyHash: Buffer;
  /** When the record began, in microseconds: a key that is used again after its `ttl` is another operation. */
  readonly born: string;
  readonly name: string;
}

/** A UUID of version 8 (RFC 9562) out of SHA-256: the same for the same parts, and nothing of the client's key in it. */
export function downstreamKeyOf({ keyHash, born, name }: DownstreamKeyParts): string {
  if (typeof name !== 'string' || name === '') throw new TypeError('downstreamKey() takes a name');
  const bytes = createHash('sha256')
    .update('nestjs-pg-idempotency:downstream\0')
    .update(keyHash)
    .update(`${born}\0${name}`)
    .digest();
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x80, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  const hex = bytes.toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join(
    '-',
  );
}
