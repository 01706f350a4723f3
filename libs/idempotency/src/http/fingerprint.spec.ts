import { isDeepStrictEqual } from 'node:util';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_BODY_DEPTH, UnfingerprintableBodyError } from './canonical-body.js';
import { fingerprintOf, type FingerprintParts, hasUnparsedBody, operationOf } from './fingerprint.js';
import type { IdempotentRequest } from './request.js';

const base: FingerprintParts = {
  namespace: 'default',
  scope: 'user-1',
  method: 'POST',
  originalUrl: '/carts/1/items?b=2&a=1',
  body: { itemId: 'x', quantity: 1 },
};
const print = (change: Partial<FingerprintParts> = {}): string =>
  fingerprintOf({ ...base, ...change }).toString('hex');
const ofBody = (body: unknown): string => print({ body });
const ofUrl = (originalUrl: string): string => print({ originalUrl });

function reordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reordered);
  if (typeof value !== 'object' || value === null) return value;
  const copy: object = Object.create(null);
  for (const [name, member] of Object.entries(value).toReversed()) {
    Object.defineProperty(copy, name, { value: reordered(member), enumerable: true, configurable: true });
  }
  return copy;
}

function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let level = 1; level < depth; level++) value = [value];
  return value;
}

describe('fingerprintOf', () => {
  it('differs for another namespace, scope, method, path, query or body', () => {
    const others: Partial<FingerprintParts>[] = [
      {},
      { namespace: 'other' },
      { scope: 'user-2' },
      { method: 'PATCH' },
      { originalUrl: '/carts/2/items?b=2&a=1' },
      { originalUrl: '/carts/1/items?b=2&a=2' },
      { originalUrl: '/carts/1/items?b=2' },
      { originalUrl: '/carts/1/items' },
      { body: { itemId: 'x', quantity: 2 } },
      { body: undefined },
    ];
    expect(new Set(others.map(print)).size).toBe(others.length);
  });

  it('takes the method in any case', () => {
    expect(print({ method: 'post' })).toBe(print());
  });

  describe('of a path', () => {
    it.each([
      ['/a/b', '/a/b/'],
      ['/a/~b', '/a/%7Eb'],
      ['/a/%7Eb', '/a/%7eb'],
      ['/caf%C3%A9', '/caf%c3%a9'],
      ['/a', 'http://host:3000/a'],
      ['/', ''],
    ])('takes %s and %s for one', (one, other) => {
      expect(ofUrl(one)).toBe(ofUrl(other));
    });

    it.each([
      ['/a/b', '/a%2Fb'],
      ['/a', '/A'],
      ['/a', '//a'],
      ['/a/%zz', '/a/%25zz'],
      ['/a/%ff', '/a/%25ff'],
      ['/a?b', '/a%3Fb'],
    ])('tells %s from %s', (one, other) => {
      expect(ofUrl(one)).not.toBe(ofUrl(other));
    });
  });

  describe('of a query', () => {
    it.each([
      ['a=1&b=2', 'b=2&a=1'],
      ['a=x&a=y&b=1', 'b=1&a=x&a=y'],
      ['a=%20', 'a=+'],
      ['a', 'a='],
      ['a=1&&b=2&', 'a=1&b=2'],
      ['%61=1', 'a=1'],
      ['', '&'],
    ])('takes %s and %s for one', (one, other) => {
      expect(ofUrl(`/p?${one}`)).toBe(ofUrl(`/p?${other}`));
    });

    it.each([
      ['a=x&a=y', 'a=y&a=x'],
      ['a=1&b=2', 'a=2&b=1'],
      ['a=1%26b=2', 'a=1&b=2'],
      ['a=b%3Dc', 'a%3Db=c'],
      ['a=%zz', 'a=%25zz'],
      ['a=%2B', 'a=+'],
      ['__proto__=1', 'constructor=1'],
    ])('tells %s from %s', (one, other) => {
      expect(ofUrl(`/p?${one}`)).not.toBe(ofUrl(`/p?${other}`));
    });
  });

  describe('of a body', () => {
    it('takes the members of objects in any order', () => {
      fc.assert(
        fc.property(fc.jsonValue(), (body) => {
          expect(ofBody(reordered(body))).toBe(ofBody(body));
        }),
      );
    });

    it('is equal for two JSON bodies exactly when they are the same JSON', () => {
      const small = fc.jsonValue({ maxDepth: 2 });
      const parsed = (body: unknown): unknown => JSON.parse(JSON.stringify(body));
      fc.assert(
        fc.property(small, small, (a, b) => {
          expect(ofBody([a]) === ofBody([b])).toBe(isDeepStrictEqual(parsed(a), parsed(b)));
        }),
      );
    });

    it('tells apart all that an absent body could be taken for', () => {
      const bodies = [
        undefined,
        null,
        0,
        '',
        false,
        {},
        [],
        [null],
        Buffer.alloc(0),
        'null',
        '{}',
        'undefined',
      ];
      expect(new Set(bodies.map(ofBody)).size).toBe(bodies.length);
    });

    it('tells text, bytes and JSON of one content apart', () => {
      const bodies = [{ a: 1 }, '{"a":1}', Buffer.from('{"a":1}')];
      expect(new Set(bodies.map(ofBody)).size).toBe(3);
    });

    it('takes a Buffer and the same bytes elsewhere for one', () => {
      expect(ofBody(new Uint8Array([9, 1, 2]).subarray(1))).toBe(ofBody(Buffer.from([1, 2])));
    });

    it('takes numbers as JSON values', () => {
      expect(ofBody(JSON.parse('[1,0.1]'))).toBe(ofBody(JSON.parse('[1.0,1e-1]')));
      expect(ofBody([1])).not.toBe(ofBody(['1']));
    });

    it('tells lone surrogates, NUL and normal forms apart', () => {
      const texts = ['\ud800', '\udc00', '\ufffd', '\u0000', '', '\u00e9', 'e\u0301'];
      expect(new Set(texts.map((text) => ofBody({ text }))).size).toBe(texts.length);
      expect(new Set(texts.map((text) => ofBody(text))).size).toBe(texts.length);
    });

    it('sees members that objects have by inheritance elsewhere', () => {
      const own = JSON.parse('{"__proto__":{"a":1}}') as unknown;
      expect(ofBody(own)).not.toBe(ofBody({}));
    });

    it('takes values with toJSON, as a Date, for what they write', () => {
      const at = new Date('2026-01-02T03:04:05.678Z');
      expect(ofBody({ at })).toBe(ofBody({ at: at.toISOString() }));
    });

    it('takes the deepest body it compares and refuses a deeper one, whatever its depth', () => {
      expect(ofBody(nested(MAX_BODY_DEPTH))).toMatch(/^[0-9a-f]{64}$/);
      for (const depth of [MAX_BODY_DEPTH + 1, 100_000]) {
        expect(() => ofBody(nested(depth))).toThrow(UnfingerprintableBodyError);
      }
    });

    const circle: Record<string, unknown> = {};
    circle['self'] = circle;
    it.each<[string, unknown]>([
      ['a circle', circle],
      ['a BigInt', { n: 1n }],
      ['NaN', { n: NaN }],
      ['Infinity', -Infinity],
      ['a function', { f: () => 1 }],
      ['a symbol', Symbol('s')],
      ['a Map', { m: new Map([[1, 2]]) }],
      ['a Set', new Set([1])],
      ['a promise', Promise.resolve({})],
      ['a thenable', new Lazy()],
      ['an Error', new Error('e')],
      ['a RegExp', /x/],
      ['an ArrayBuffer', new ArrayBuffer(2)],
      ['URLSearchParams', new URLSearchParams('a=1')],
      ['a value whose toJSON fails', { toJSON: () => fail() }],
      ['a value whose toJSON never ends', endless()],
    ])('refuses %s and says what to do', (_, body) => {
      expect(() => ofBody(body)).toThrow(UnfingerprintableBodyError);
      expect(() => ofBody(body)).toThrow(/Return JSON, a string or a Buffer/);
    });

    it('never repeats content of the body in the error', () => {
      expect(() => ofBody({ secret: 'hunter2', n: 1n })).toThrow(/^((?!hunter2).)*$/s);
    });
  });
});

/** A lazy query: a thenable that is no promise. */
class Lazy {
  readonly [name: string]: () => void;
  constructor() {
    Reflect.set(this, 'then', () => undefined);
  }
}

function fail(): never {
  throw new Error('no');
}

function endless(): object {
  return { toJSON: () => ({ again: endless() }) };
}

describe('hasUnparsedBody', () => {
  it.each([
    [{ 'content-length': '5' }, undefined, true],
    [{ 'transfer-encoding': 'chunked' }, undefined, true],
    [{ 'content-length': '0' }, undefined, false],
    [{}, undefined, false],
    [{ 'content-length': '4' }, null, false],
    [{ 'content-length': '2' }, '', false],
    [{ 'content-length': '2' }, {}, false],
  ])('judges headers %j with body %j as %s', (headers, body, unparsed) => {
    expect(hasUnparsedBody({ headers, body })).toBe(unparsed);
  });
});

describe('operationOf', () => {
  const request: IdempotentRequest = {
    method: 'post',
    originalUrl: '/carts/7/items?x=1',
    headers: {},
    params: {},
    query: {},
  };
  const withRoute = (extra: object): IdempotentRequest => ({ ...request, ...extra });

  it('names the route of Express and of Fastify', () => {
    expect(operationOf(withRoute({ route: { path: '/carts/:userId/items' } }))).toBe(
      'POST /carts/:userId/items',
    );
    expect(operationOf(withRoute({ routeOptions: { url: '/carts/:userId/items' } }))).toBe(
      'POST /carts/:userId/items',
    );
  });

  it('names the path, without the query, where the route has no text', () => {
    expect(operationOf(withRoute({ route: { path: /x/ } }))).toBe('POST /carts/7/items');
    expect(operationOf(request)).toBe('POST /carts/7/items');
  });
});
