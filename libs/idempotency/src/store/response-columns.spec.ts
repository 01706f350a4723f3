import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Sealer, SealError } from '../sealing/sealer.js';
import type { StoredResponse } from './record.js';
import { BytesCodec, type ResponseColumns, ResponseCodec, type SealedPlace } from './response-columns.js';

const KEY_HASH = Buffer.alloc(32, 1);
const sealer = new Sealer([Buffer.alloc(32, 7)]);
const stranger = new Sealer([Buffer.alloc(32, 8)]);

const anyResponse: fc.Arbitrary<StoredResponse> = fc.record({
  status: fc.integer({ min: 200, max: 599 }),
  headers: fc.dictionary(fc.string({ minLength: 1 }), fc.string()),
  body: fc.option(fc.uint8Array().map((bytes) => Buffer.from(bytes))),
});
const ANSWER: StoredResponse = {
  status: 201,
  headers: { 'content-type': 'text/plain', location: '/secret' },
  body: Buffer.from('secret'),
};

/** The columns as PostgreSQL gives them back. */
const rowOf = ({ format, status, headers, body }: ResponseColumns) => ({
  format,
  response_status: status,
  response_headers: JSON.parse(headers) as Record<string, string>,
  response_body: body,
});

describe('the columns of an answer', () => {
  it.each([
    ['plain', new ResponseCodec()],
    ['sealed', new ResponseCodec(sealer)],
  ])('give back what was stored (%s)', (_how, codec) => {
    fc.assert(
      fc.property(anyResponse, (response) => {
        const back = codec.decode(KEY_HASH, rowOf(codec.encode(KEY_HASH, response)));
        expect(back.status).toBe(response.status);
        expect({ ...back.headers }).toEqual({ ...response.headers });
        expect(back.body === null ? null : Buffer.from(back.body)).toEqual(response.body);
      }),
    );
  });

  it('are readable without a sealing', () => {
    expect(new ResponseCodec().encode(KEY_HASH, ANSWER)).toEqual({
      format: 1,
      status: 201,
      headers: '{"content-type":"text/plain","location":"/secret"}',
      body: Buffer.from('secret'),
    });
  });

  it('show the status alone with one, of a tombstone too', () => {
    const codec = new ResponseCodec(sealer);
    const { body, ...shown } = codec.encode(KEY_HASH, ANSWER);
    expect(shown).toEqual({ format: 2, status: 201, headers: '{}' });
    expect(body?.includes('secret')).toBe(false);
    const tombstone = codec.encode(KEY_HASH, { ...ANSWER, body: null });
    expect(tombstone.body).not.toBeNull();
    expect(codec.decode(KEY_HASH, rowOf(tombstone)).body).toBeNull();
  });

  it('that were stored before there was a key are readable with one', () => {
    const row = rowOf(new ResponseCodec().encode(KEY_HASH, ANSWER));
    expect(new ResponseCodec(sealer).decode(KEY_HASH, row)).toEqual(ANSWER);
  });

  it('may have no headers', () => {
    const row = { ...rowOf(new ResponseCodec().encode(KEY_HASH, ANSWER)), response_headers: null };
    expect(new ResponseCodec().decode(KEY_HASH, row).headers).toEqual({});
  });

  it('open neither without their key, nor in another record, nor without their bytes', () => {
    const row = rowOf(new ResponseCodec(sealer).encode(KEY_HASH, ANSWER));
    const open =
      (codec: ResponseCodec, keyHash = KEY_HASH, of: typeof row = row) =>
      () =>
        codec.decode(keyHash, of);
    expect(open(new ResponseCodec())).toThrow('the answer is encrypted and the module has no encryptionKeys');
    expect(open(new ResponseCodec(stranger))).toThrow(SealError);
    expect(open(new ResponseCodec(sealer), Buffer.alloc(32, 2))).toThrow(SealError);
    expect(open(new ResponseCodec(sealer), KEY_HASH, { ...row, response_body: null })).toThrow(
      'the encrypted answer is missing',
    );
  });
});

describe('bytes beside a record', () => {
  const STEP: SealedPlace = { keyHash: KEY_HASH, purpose: 'step', name: 'charge' };

  it.each([
    ['plain', new BytesCodec()],
    ['sealed', new BytesCodec(sealer)],
  ])('come back as they were (%s)', (_how, codec) => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        const plain = Buffer.from(bytes);
        expect(codec.decode(codec.encode(plain, STEP), STEP).equals(plain)).toBe(true);
      }),
    );
  });

  it('say themselves whether they are sealed', () => {
    const plain = new BytesCodec().encode(Buffer.from('secret'), STEP);
    const sealed = new BytesCodec(sealer).encode(Buffer.from('secret'), STEP);
    expect(plain).toEqual(Buffer.from('\0secret'));
    expect([sealed[0], sealed.includes('secret')]).toEqual([1, false]);
    expect(new BytesCodec(sealer).decode(plain, STEP)).toEqual(Buffer.from('secret'));
  });

  it.each<[string, Partial<SealedPlace>]>([
    ['record', { keyHash: Buffer.alloc(32, 2) }],
    ['purpose', { purpose: 'request' }],
    ['step', { name: 'refund' }],
  ])('open in no other %s', (_what, other) => {
    const codec = new BytesCodec(sealer);
    const sealed = codec.encode(Buffer.from('secret'), STEP);
    expect(() => codec.decode(sealed, { ...STEP, ...other })).toThrow(SealError);
  });

  it('do not open without their key', () => {
    const sealed = new BytesCodec(sealer).encode(Buffer.from('secret'), STEP);
    expect(() => new BytesCodec(stranger).decode(sealed, STEP)).toThrow(SealError);
    expect(() => new BytesCodec().decode(sealed, STEP)).toThrow(
      'the step is encrypted and the module has no encryptionKeys',
    );
  });

  it.each([Buffer.of(2), Buffer.of(255, 0), Buffer.alloc(0)])(
    'that a newer version has written are refused: %o',
    (stored) => {
      for (const codec of [new BytesCodec(), new BytesCodec(sealer)]) {
        expect(() => codec.decode(stored, { keyHash: KEY_HASH, purpose: 'request' })).toThrow(
          'the request is stored in a way that this version does not know',
        );
      }
    },
  );
});
