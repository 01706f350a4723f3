import { createHash } from 'node:crypto';

/**
 * SHA-256 over parts, each prefixed by its length in bytes (4 bytes, big-endian), so that parts cannot run together:
 * `ab` + `c` differs from `a` + `bc`.
 */
export function sha256Of(parts: readonly (string | Uint8Array)[]): Buffer {
  const hash = createHash('sha256');
  for (const part of parts) {
    const bytes = typeof part === 'string' ? bytesOf(part) : part;
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.byteLength);
    hash.update(length).update(bytes);
  }
  return hash.digest();
}

/**
 * UTF-8, and for text with a lone surrogate, which UTF-8 would replace so that two texts become one, a form that no
 * UTF-8 text has.
 */
function bytesOf(text: string): Buffer {
  if (!/\p{Surrogate}/u.test(text)) return Buffer.from(text, 'utf8');
  return Buffer.concat([Buffer.from([0xff]), Buffer.from(text, 'utf16le')]);
}
