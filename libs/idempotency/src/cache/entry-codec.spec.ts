import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { packResponse } from '../sealing/sealed-response.js';
import { Sealer } from '../sealing/sealer.js';
import { type CacheEntry, EntryCodec } from './entry-codec.js';

const key = Buffer.alloc(32, 7);
const otherKey = Buffer.alloc(32, 9);
const codec = new EntryCodec(new Sealer([key]), 'a1');
const keyHash = Buffer.alloc(32, 1);

const hash = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes));
const expiresAtMs = fc.double({ min: 0, max: 8.64e15, noNaN: true });
const entry: fc.Arbitrary<CacheEntry> = fc.oneof(
  fc.record({
    kind: fc.constant('final' as const),
    fingerprint: hash,
    expiresAtMs,
    raised: fc.boolean(),
    response: fc.record({
      status: fc.integer({ min: 100, max: 999 }),
      headers: fc.dictionary(fc.string(), fc.string(), { noNullPrototype: true }),
      body: fc.option(
        fc.uint8Array({ maxLength: 5_000 }).map((bytes) => Buffer.from(bytes)),
        { nil: null },
      ),
    }),
  }),
  fc.record({ kind: fc.constant('in-flight' as const), fingerprint: hash, expiresAtMs }),
  fc.constant({ kind: 'erased' as const }),
);

/** What somebody with the module's key could have sealed by another form of entries. */
const sealed = (plain: Buffer): Buffer =>
  new Sealer([key]).seal(plain, { keyHash, purpose: 'cache', name: 'a1' });

describe('EntryCodec', () => {
  it('gives back every entry as it was', () => {
    fc.assert(
      fc.property(hash, entry, (of, given) => {
        expect(codec.decode(of, codec.encode(of, given))).toEqual(given);
      }),
    );
  });

  it('tells a tombstone from an empty answer', () => {
    for (const body of [null, Buffer.alloc(0)]) {
      const response = { status: 201, headers: {}, body };
      const given = {
        kind: 'final',
        fingerprint: keyHash,
        expiresAtMs: 1,
        raised: false,
        response,
      } as const;
      expect(codec.decode(keyHash, codec.encode(keyHash, given))).toEqual(given);
    }
  });

  it('shows nothing of an answer to whoever reads the cache', () => {
    const response = { status: 201, headers: { secret: 'in a header' }, body: Buffer.from('in the body') };
    const bytes = codec.encode(keyHash, {
      kind: 'final',
      fingerprint: keyHash,
      expiresAtMs: 1,
      raised: false,
      response,
    });
    expect(bytes.includes('in the body')).toBe(false);
    expect(bytes.includes('in a header')).toBe(false);
    expect(bytes.includes(keyHash)).toBe(false);
  });

  it('opens nothing for another record, another table, or with another key', () => {
    fc.assert(
      fc.property(hash, hash, entry, (of, other, given) => {
        fc.pre(!of.equals(other));
        const bytes = codec.encode(of, given);
        expect(() => codec.decode(other, bytes)).toThrow(Error);
        expect(() => new EntryCodec(new Sealer([key]), 'a2').decode(of, bytes)).toThrow(Error);
        expect(() => new EntryCodec(new Sealer([otherKey]), 'a1').decode(of, bytes)).toThrow(Error);
      }),
    );
  });

  it('opens what was sealed with any of its keys, and seals with the first', () => {
    const bytes = codec.encode(keyHash, { kind: 'erased' });
    const rotated = new EntryCodec(new Sealer([otherKey, key]), 'a1');
    expect(rotated.decode(keyHash, bytes)).toEqual({ kind: 'erased' });
    expect(() => codec.decode(keyHash, rotated.encode(keyHash, { kind: 'erased' }))).toThrow(Error);
  });

  it('refuses an entry with any of its bytes changed, taken away or added', () => {
    fc.assert(
      fc.property(entry, fc.nat(), fc.integer({ min: 1, max: 255 }), (given, place, change) => {
        const bytes = codec.encode(keyHash, given);
        const at = place % bytes.byteLength;
        const changed = Buffer.from(bytes);
        changed.writeUInt8((bytes[at] as number) ^ change, at);
        expect(() => codec.decode(keyHash, changed)).toThrow(Error);
        expect(() => codec.decode(keyHash, bytes.subarray(0, at))).toThrow(Error);
        expect(() => codec.decode(keyHash, Buffer.concat([bytes, Buffer.of(change)]))).toThrow(Error);
      }),
    );
  });

  it('answers any bytes with an Error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 500 }), (bytes) => {
        expect(() => codec.decode(keyHash, bytes)).toThrow(Error);
      }),
    );
  });

  it('answers any content that was sealed with its key with an entry or an Error', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.uint8Array({ maxLength: 200 }), fc.uint8Array({ minLength: 45, maxLength: 45 })),
        fc.constantFrom(undefined, 1, 2, 3),
        (content, kind) => {
          const plain = Buffer.from(content);
          if (kind !== undefined && plain.byteLength > 0) plain.writeUInt8(kind);
          try {
            expect(['final', 'in-flight', 'erased']).toContain(codec.decode(keyHash, sealed(plain)).kind);
          } catch (error) {
            expect(error).toBeInstanceOf(Error);
          }
        },
      ),
    );
  });

  it('refuses an entry of a kind that it does not know', () => {
    expect(() => codec.decode(keyHash, sealed(Buffer.alloc(60, 4)))).toThrow('unknown kind');
  });

  it("takes no record's stored answer for an entry, nor gives an entry away as one", () => {
    const sealer = new Sealer([key]);
    const packed = packResponse({ headers: {}, body: Buffer.from('paid') });
    for (const purpose of ['response', 'request', 'step'] as const) {
      const stored = sealer.seal(packed, { keyHash, purpose });
      expect(() => codec.decode(keyHash, stored)).toThrow(Error);
      const named = sealer.seal(packed, { keyHash, purpose, name: 'a1' });
      expect(() => codec.decode(keyHash, named)).toThrow(Error);
      const bytes = codec.encode(keyHash, { kind: 'erased' });
      expect(() => sealer.open(bytes, { keyHash, purpose, name: 'a1' })).toThrow(Error);
    }
  });
});
