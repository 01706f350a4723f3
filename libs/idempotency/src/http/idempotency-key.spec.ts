import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type KeyReading, matchesKeyFormat, readIdempotencyKey } from './idempotency-key.js';

const HEADER = 'Idempotency-Key';
const read = (value: string | string[]): KeyReading =>
  readIdempotencyKey({ headers: { 'idempotency-key': value } }, HEADER);
const quote = (key: string): string => `"${key.replace(/[\\"]/g, String.raw`\$&`)}"`;
const reasonOf = (reading: KeyReading): string =>
  reading.kind === 'invalid' ? reading.reason : reading.kind;

const printable = fc
  .string({
    unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)),
    minLength: 1,
    maxLength: 255,
  })
  .filter((key) => key.trim() !== '');

describe('readIdempotencyKey', () => {
  it('says that a header is missing', () => {
    expect(readIdempotencyKey({ headers: {} }, HEADER)).toEqual({ kind: 'missing' });
  });

  it('takes the name of the header in any case', () => {
    expect(readIdempotencyKey({ headers: { 'x-key': 'k' } }, 'X-KEY')).toEqual({ kind: 'key', key: 'k' });
  });

  it('reads every printable key from its quoted form', () => {
    fc.assert(
      fc.property(printable, (key) => {
        expect(read(quote(key))).toEqual({ kind: 'key', key });
      }),
    );
  });

  it('reads the bare form of a key as its quoted form', () => {
    const bare = printable.filter((key) => !key.includes(',') && !key.startsWith('"') && key.trim() === key);
    fc.assert(
      fc.property(bare, (key) => {
        expect(read(key)).toEqual(read(quote(key)));
      }),
    );
  });

  it('never throws and never repeats what was sent', () => {
    const odd = fc.string({ minLength: 12, maxLength: 400 }).map((text) => `\u00e9${text}`);
    fc.assert(
      fc.property(odd, (value) => {
        const reading = read(value);
        expect(reading.kind).toBe('invalid');
        expect(reasonOf(reading)).not.toContain(value);
      }),
    );
  });

  it('accepts 1 and 255 characters, and refuses 256', () => {
    expect(read('k').kind).toBe('key');
    expect(read('k'.repeat(255)).kind).toBe('key');
    expect(reasonOf(read('k'.repeat(256)))).toContain('longer than 255');
    expect(read(quote('"'.repeat(255))).kind).toBe('key');
    expect(read(quote('k'.repeat(256))).kind).toBe('invalid');
  });

  it.each([...Array(256).keys()])('judges byte %i by the range of printable ASCII', (code) => {
    const printableByte = code >= 0x20 && code <= 0x7e && code !== 0x2c;
    expect(read(`a${String.fromCharCode(code)}b`).kind).toBe(printableByte ? 'key' : 'invalid');
  });

  it.each([
    ['empty', '', 'is empty'],
    ['blank', ' \t ', 'is empty'],
    ['an empty string in quotes', '""', 'empty key'],
    ['spaces in quotes', '"   "', 'consists of spaces'],
    ['a quote that does not end', '"abc', 'Structured-Field String'],
    ['text after the string', '"abc"x', 'Structured-Field String'],
    ['an escape that means nothing', String.raw`"a\bc"`, 'Structured-Field String'],
    ['parameters after the string', '"abc";v=1', 'parameters'],
    ['two strings', '"abc", "def"', 'Structured-Field String'],
    ['a tab inside', 'a\tb', 'printable ASCII'],
    ['letters beyond ASCII', 'caf\u00e9', 'printable ASCII'],
    ['a comma outside quotes', 'abc, def', 'an intermediary may have joined two headers'],
  ])('refuses %s', (_, value, reason) => {
    expect(reasonOf(read(value))).toContain(reason);
  });

  it('takes a comma inside quotes', () => {
    expect(read('"a, b"')).toEqual({ kind: 'key', key: 'a, b' });
  });

  it('refuses a doubled header that Node joined, on Express and on Fastify', () => {
    const headers = { 'idempotency-key': 'a, b' };
    const rawHeaders = ['Idempotency-Key', 'a', 'Accept', 'b', 'idempotency-key', 'b'];
    for (const request of [
      { headers, rawHeaders },
      { headers, raw: { rawHeaders } },
      { headers: { 'idempotency-key': ['a', 'b'] } },
      {
        headers: { 'idempotency-key': '"same"' },
        rawHeaders: ['Idempotency-Key', '"same"', 'Idempotency-Key', '"same"'],
      },
    ]) {
      expect(reasonOf(readIdempotencyKey(request, HEADER))).toContain('more than once');
    }
  });

  it('takes a single value that a host gives as an array', () => {
    expect(read(['abc'])).toEqual({ kind: 'key', key: 'abc' });
    expect(read([]).kind).toBe('invalid');
  });

  it.each(['__proto__', 'constructor', "'; DROP TABLE x; --", '${jndi}', '%0d%0a'])(
    'takes %s as a key',
    (key) => {
      expect(read(key)).toEqual({ kind: 'key', key });
    },
  );
});

describe('matchesKeyFormat', () => {
  const v4 = '7f9c24e8-3b12-4a5f-9d1e-0a2b3c4d5e6f';
  const v7 = '0190a3b4-c5d6-7e8f-9a0b-1c2d3e4f5a6b';

  it('takes UUIDs of every version, in any case', () => {
    for (let version = 1; version <= 8; version++) {
      expect(matchesKeyFormat(`7f9c24e8-3b12-${version}a5f-9d1e-0a2b3c4d5e6f`, 'uuid')).toBe(true);
    }
    expect(matchesKeyFormat(v4.toUpperCase(), 'uuid')).toBe(true);
  });

  it.each([
    '00000000-0000-0000-0000-000000000000',
    'ffffffff-ffff-ffff-ffff-ffffffffffff',
    `${v4} `,
    `{${v4}}`,
    v4.replaceAll('-', ''),
    '7f9c24e8-3b12-9a5f-9d1e-0a2b3c4d5e6f',
    '7f9c24e8-3b12-4a5f-cd1e-0a2b3c4d5e6f',
  ])('refuses %s as a UUID', (key) => {
    expect(matchesKeyFormat(key, 'uuid')).toBe(false);
  });

  it('tells version 7 from the others', () => {
    expect(matchesKeyFormat(v7, 'uuidv7')).toBe(true);
    expect(matchesKeyFormat(v4, 'uuidv7')).toBe(false);
  });

  it.each(['', 'g', 'y', 'gy'])('judges one key alike every time with the flags %j', (flags) => {
    const format = new RegExp('^order-\\d+$', flags);
    format.lastIndex = 3;
    expect([1, 2, 3].map(() => matchesKeyFormat('order-12', format))).toEqual([true, true, true]);
    expect(matchesKeyFormat('x-order-12', format)).toBe(false);
  });

  it('accepts by a predicate that returns true', () => {
    expect(matchesKeyFormat('abc', (key) => key.startsWith('a'))).toBe(true);
    expect(matchesKeyFormat('abc', () => false)).toBe(false);
  });

  it('refuses when a predicate returns a promise or another truthy value', () => {
    const later = (() => Promise.resolve(true)) as unknown as () => boolean;
    const truthy = (() => 'yes') as unknown as () => boolean;
    expect([later, truthy].map((format) => matchesKeyFormat('abc', format))).toEqual([false, false]);
  });
});
