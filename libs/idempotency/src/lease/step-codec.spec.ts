import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeResult, encodeResult } from './step-codec.js';

const throughJson = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

describe('the result of a step', () => {
  it('comes back as JSON gives it back', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const encoded = encodeResult(value);
        expect(encoded.contentType).toBe('application/json');
        expect(decodeResult(encoded)).toEqual(throughJson(value));
      }),
    );
  });

  it('of any text is the same text, lone surrogates and NUL among them', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(decodeResult(encodeResult(text))).toBe(text);
      }),
    );
    expect(decodeResult(encodeResult('\uD800 \0'))).toBe('\uD800 \0');
  });

  it('of bytes is the same bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        const encoded = encodeResult(bytes);
        const decoded = decodeResult(encoded);
        expect(encoded.contentType).toBe('application/octet-stream');
        expect(Buffer.isBuffer(decoded)).toBe(true);
        expect(Buffer.from(bytes).equals(decoded as Buffer)).toBe(true);
      }),
    );
  });

  it('is what the bytes were when it was returned, and each reading has a copy of its own', () => {
    const bytes = Buffer.from('abc');
    const encoded = encodeResult(bytes);
    bytes.fill(0);
    const first = decodeResult(encoded) as Buffer;
    first.fill(1);
    expect(decodeResult(encoded)).toEqual(Buffer.from('abc'));
  });

  it('takes a part of a larger buffer without the rest', () => {
    const part = Buffer.from('a secret beside').subarray(2, 8);
    expect(encodeResult(part).body.toString()).toBe('secret');
  });

  it('tells nothing, null and empty bytes apart', () => {
    expect(encodeResult(undefined)).toEqual({ contentType: null, body: Buffer.alloc(0) });
    expect(decodeResult(encodeResult(undefined))).toBeUndefined();
    expect(decodeResult(encodeResult(null))).toBeNull();
    expect(decodeResult(encodeResult(Buffer.alloc(0)))).toEqual(Buffer.alloc(0));
  });

  it.each([
    [new Date(0), '1970-01-01T00:00:00.000Z'],
    [{ a: 1, b: undefined }, { a: 1 }],
    [
      [1, undefined, Number.NaN],
      [1, null, null],
    ],
    [{ toJSON: () => 'own' }, 'own'],
    [JSON.parse('{"__proto__":{"polluted":true}}'), JSON.parse('{"__proto__":{"polluted":true}}')],
  ])('of %o is %o, the first time too', (value, journaled) => {
    expect(decodeResult(encodeResult(value))).toEqual(journaled);
    expect(({} as { polluted?: true }).polluted).toBeUndefined();
  });

  const circle: { self?: object } = {};
  circle.self = circle;
  it.each<[string, unknown, RegExp]>([
    ['a bigint', 1n, /BigInt/],
    ['a bigint inside', { amount: 1n }, /BigInt/],
    ['a circle', circle, /circular/],
    ['a function', () => 1, /a function cannot be journaled/],
    ['a symbol', Symbol('s'), /a symbol cannot be journaled/],
    ['what turns itself into nothing', { toJSON: () => undefined }, /an? object cannot be journaled/],
  ])('cannot be %s', (_what, value, message) => {
    expect(() => encodeResult(value)).toThrow(TypeError);
    expect(() => encodeResult(value)).toThrow(message);
  });
});
