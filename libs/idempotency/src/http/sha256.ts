import { hash } from 'node:crypto';

/**
 * SHA-256 over parts, each prefixed by its length in bytes (4 bytes, big-endian), so that parts cannot run together:
 * `ab` + `c` differs from `a` + `bc`.
 */
export function sha256Of(parts: readonly (string | Uint8Array)[]): Buffer {
  const bytes = parts.map((part) => (typeof part === 'string' ? bytesOf(part) : part));
  const message = Buffer.allocUnsafe(bytes.reduce((size, part) => size + 4 + part.byteLength, 0));
  let at = 0;
  for (const part of bytes) {
    at = message.writeUInt32BE(part.byteLength, at);
    message.set(part, at);
    at += part.byteLength;
  }
  // In one call: a hash object that is fed part by part costs several times as much.
  return hash('sha256', message, 'buffer');
}

/**
 * UTF-8, and for text with a lone surrogate, which UTF-8 would replace so that two texts become one, a form that no
 * UTF-8 text has.
 */
function bytesOf(text: string): Buffer {
  if (text.isWellFormed()) return Buffer.from(text, 'utf8');
  return Buffer.concat([Buffer.from([0xff]), Buffer.from(text, 'utf16le')]);
}
