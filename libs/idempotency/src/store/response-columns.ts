import { packResponse, unpackResponse } from '../sealing/sealed-response.js';
import { SEALED_FORMAT, PLAIN_FORMAT, type StoredResponse } from './record.js';

/** Encrypts bytes so that they open only where they belong: in the same record, for the same purpose. */
export interface Sealing {
  seal(plain: Uint8Array, context: SealedPlace): Buffer;
  /** @throws when the key is not known, or the bytes were not sealed for this place. */
  open(sealed: Uint8Array, context: SealedPlace): Buffer;
}

/** Where sealed bytes belong. */
export interface SealedPlace {
  readonly keyHash: Buffer;
  readonly purpose: 'response' | 'request' | 'step' | 'cache';
  /** Name of the step, or of the table for what a cache keeps. */
  readonly name?: string;
}

/** The columns of a stored answer, as one life of a record has them. */
export interface ResponseColumns {
  readonly format: number;
  readonly status: number;
  readonly headers: string;
  readonly body: Buffer | null;
}

/** Writes and reads the columns of a stored answer. With a sealing, headers and body are one sealed value. */
export class ResponseCodec {
  constructor(private readonly sealing?: Sealing) {}

  encode(keyHash: Buffer, { status, headers, body }: StoredResponse): ResponseColumns {
    if (!this.sealing) return { format: PLAIN_FORMAT, status, headers: JSON.stringify(headers), body };
    const sealed = this.sealing.seal(packResponse({ headers, body }), { keyHash, purpose: 'response' });
    return { format: SEALED_FORMAT, status, headers: '{}', body: sealed };
  }

  /** @throws when the answer is sealed and cannot be opened with the keys at hand. */
  decode(
    keyHash: Buffer,
    row: {
      readonly format: number;
      readonly response_status: number;
      readonly response_headers: Record<string, string> | null;
      readonly response_body: Buffer | null;
    },
  ): StoredResponse {
    const { response_status: status, response_headers: headers, response_body: body } = row;
    if (row.format === PLAIN_FORMAT) return { status, headers: headers ?? {}, body };
    if (!this.sealing) throw new Error('the answer is encrypted and the module has no encryptionKeys');
    if (body === null) throw new Error('the encrypted answer is missing');
    return { status, ...unpackResponse(this.sealing.open(body, { keyHash, purpose: 'response' })) };
  }
}

/** Bytes beside a record (a stored request, a step's result), which say themselves whether they are sealed. */
export class BytesCodec {
  constructor(private readonly sealing?: Sealing) {}

  encode(plain: Buffer, place: SealedPlace): Buffer {
    return this.sealing
      ? Buffer.concat([Buffer.of(1), this.sealing.seal(plain, place)])
      : Buffer.concat([Buffer.of(0), plain]);
  }

  /** @throws when the bytes are sealed and cannot be opened with the keys at hand. */
  decode(stored: Buffer, place: SealedPlace): Buffer {
    const [kind] = stored;
    const rest = stored.subarray(1);
    if (kind === 0) return rest;
    if (kind !== 1)
      throw new Error(`the ${place.purpose} is stored in a way that this version does not know`);
    if (!this.sealing)
      throw new Error(`the ${place.purpose} is encrypted and the module has no encryptionKeys`);
    return this.sealing.open(rest, place);
  }
}
