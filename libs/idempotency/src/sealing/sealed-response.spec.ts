import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { packResponse, unpackResponse } from './sealed-response.js';
import { SealError, Sealer } from './sealer.js';

const headers = fc.dictionary(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }));
const body = fc.option(
  fc.uint8Array().map((array) => Buffer.from(array)),
  { nil: null },
);

/** Packed by hand: marker, length and text of the headers, body. */
function packed(marker: number, json: string | Buffer, rest = '', length = Buffer.byteLength(json)): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(marker);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, Buffer.from(json), Buffer.from(rest)]);
}

describe('a packed response', () => {
  it('comes back as it was', () => {
    fc.assert(
      fc.property(fc.record({ headers, body }), (response) => {
        const back = unpackResponse(packResponse(response));
        expect(new Map(Object.entries(back.headers))).toEqual(new Map(Object.entries(response.headers)));
        expect(back.body).toEqual(response.body);
      }),
    );
  });

  it('is a marker, the headers after their length, and the body', () => {
    const response = { headers: { 'content-type': 'text/plain' }, body: Buffer.from('paid') };
    expect(packResponse(response)).toEqual(packed(1, '{"content-type":"text/plain"}', 'paid'));
    expect(packResponse({ ...response, body: null })).toEqual(packed(0, '{"content-type":"text/plain"}'));
  });

  it('tells a tombstone from an empty body', () => {
    expect(unpackResponse(packResponse({ headers: {}, body: null })).body).toBeNull();
    expect(unpackResponse(packResponse({ headers: {}, body: Buffer.alloc(0) })).body).toEqual(
      Buffer.alloc(0),
    );
  });

  it('keeps headers with names that mean something to objects, and lone surrogates', () => {
    const odd = JSON.parse('{"__proto__":"a","constructor":"b","x":"\\ud800","\\ufeff":"c"}') as Record<
      string,
      string
    >;
    const back = unpackResponse(packResponse({ headers: odd, body: null })).headers;
    expect(Object.entries(back)).toEqual(Object.entries(odd));
    expect(Object.getPrototypeOf(back)).toBe(Object.prototype);
  });

  it('comes back from a part of a larger buffer', () => {
    const inner = packResponse({ headers: { a: 'b' }, body: Buffer.from('paid') });
    const around = new Uint8Array([9, 9, ...inner, 9]);
    const back = unpackResponse(around.subarray(2, -1));
    expect(back).toEqual({ headers: { a: 'b' }, body: Buffer.from('paid') });
    expect(Buffer.isBuffer(back.body)).toBe(true);
  });

  it('comes back through a seal', () => {
    const sealer = new Sealer([Buffer.alloc(32, 1)]);
    const context = { keyHash: Buffer.alloc(32, 2), purpose: 'response' } as const;
    const response = { headers: { etag: '"1"' }, body: Buffer.from([0, 255]) };
    const sealed = sealer.seal(packResponse(response), context);
    expect(unpackResponse(sealer.open(sealed, context))).toEqual(response);
  });

  it.each<[string, Buffer]>([
    ['no bytes', Buffer.alloc(0)],
    ['less than its beginning', Buffer.of(1, 0, 0, 0)],
    ['no headers', packed(1, '')],
    ['an unknown marker', packed(2, '{}')],
    ['a tombstone with a body', packed(0, '{}', 'x')],
    ['headers that end early', packed(1, '{}', '', 3)],
    ['a length past the end', packed(1, '{}', '', 0xffff_ffff)],
    ['a length that cuts the headers', packed(1, '{}', '', 1)],
    ['headers that are no JSON', packed(1, '{secret}')],
    ['headers that are no UTF-8', packed(1, Buffer.from('7b2261223a22ff227d', 'hex'))],
    ['a byte order mark', packed(1, '\ufeff{}')],
    ['null for headers', packed(1, 'null')],
    ['an array for headers', packed(1, '[]')],
    ['a text for headers', packed(1, '"a"')],
    ['a header that is a number', packed(1, '{"a":1}')],
    ['a header that is null', packed(1, '{"a":"b","c":null}')],
    ['a header that is a list', packed(1, '{"a":["b"]}')],
  ])('is refused when it has %s', (_what, bytes) => {
    let thrown: unknown;
    try {
      unpackResponse(bytes);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(SealError);
    expect(thrown).toMatchObject({ reason: 'damaged' });
    expect(String((thrown as Error).stack)).not.toContain('secret');
  });

  it('is refused or well formed, whichever byte is changed', () => {
    fc.assert(
      fc.property(
        fc.record({ headers, body }),
        fc.nat(),
        fc.integer({ min: 0, max: 255 }),
        (response, at, byte) => {
          const bytes = packResponse(response);
          bytes[at % bytes.byteLength] = byte;
          try {
            const back = unpackResponse(bytes);
            expect(unpackResponse(packResponse(back))).toEqual(back);
          } catch (error) {
            if (!(error instanceof SealError)) throw error;
          }
        },
      ),
    );
  });
});
