import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_SEALING_KEYS, parseSealingKeys } from './sealing-keys.js';

const KEY = Buffer.from(Array.from({ length: 32 }, (_, index) => 255 - index));
const OTHER = Buffer.alloc(32, 7);

const key = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .filter((array) => array.some((byte) => byte !== 0))
  .map((array) => Buffer.from(array));

/** Every way to write a key. */
const FORMS: readonly ((bytes: Buffer) => unknown)[] = [
  (bytes) => bytes,
  (bytes) => new Uint8Array(bytes),
  (bytes) => bytes.toString('hex'),
  (bytes) => bytes.toString('hex').toUpperCase(),
  (bytes) => bytes.toString('base64'),
  (bytes) => bytes.toString('base64').replace('=', ''),
  (bytes) => bytes.toString('base64url'),
  (bytes) => `${bytes.toString('base64url')}=`,
];

function problemOf(value: unknown): string {
  const parsed = parseSealingKeys(value);
  if ('keys' in parsed) return expect.fail('it was taken for keys');
  return parsed.problem;
}

describe('parseSealingKeys', () => {
  it('reads keys in any form, in their order', () => {
    const keys = fc.uniqueArray(key, {
      minLength: 1,
      maxLength: MAX_SEALING_KEYS,
      selector: (each) => each.toString('hex'),
    });
    fc.assert(
      fc.property(keys, fc.infiniteStream(fc.constantFrom(...FORMS)), (expected, forms) => {
        const written = expected.map((each) => (forms.next().value as (bytes: Buffer) => unknown)(each));
        expect(parseSealingKeys(written)).toEqual({ keys: expected });
      }),
    );
  });

  it('copies the bytes it is given', () => {
    const given = Buffer.from(KEY);
    const parsed = parseSealingKeys([given]);
    given.fill(0);
    expect(parsed).toEqual({ keys: [KEY] });
  });

  it.each([
    ['nothing', undefined],
    ['null', null],
    ['an empty array', []],
    ['one key without an array', KEY],
    ['one text without an array', KEY.toString('hex')],
    ['an object', { 0: KEY, length: 1 }],
    ['17 keys', Array.from({ length: 17 }, (_, index) => Buffer.alloc(32, index + 1))],
  ])('refuses %s: it takes an array of 1 to 16', (_what, value) => {
    expect(problemOf(value)).toBe('use an array of 1 to 16 keys, the current one first');
  });

  it('takes 16 keys', () => {
    const keys = Array.from({ length: 16 }, (_, index) => Buffer.alloc(32, index + 1));
    expect(parseSealingKeys(keys)).toEqual({ keys });
  });

  it.each<[string, unknown, string]>([
    ['31 bytes', Buffer.alloc(31, 1), '31 bytes long'],
    ['33 bytes', new Uint8Array(33).fill(1), '33 bytes long'],
    ['no bytes', Buffer.alloc(0), '0 bytes long'],
    ['an empty text', '', 'a text of 0 characters that is no key'],
    ['a pass phrase', 'correct horse battery staple!!!!', 'a text of 32 characters that is no key'],
    ['63 hex digits', 'a'.repeat(63), 'a text of 63 characters that is no key'],
    ['hex with 0x', `0x${'a'.repeat(64)}`, 'a text of 66 characters that is no key'],
    ['64 characters, one no hex digit', `${'a'.repeat(63)}g`, 'a text of 64 characters that is no key'],
    ['a line end', `${KEY.toString('hex')}\n`, 'a text of 65 characters that is no key'],
    ['a space before base64', ` ${KEY.toString('base64')}`, 'a text of 45 characters that is no key'],
    ['base64 of 31 bytes', KEY.toString('base64', 1), 'a text of 44 characters that is no key'],
    ['base64 of 33 bytes', Buffer.alloc(33, 1).toString('base64'), 'a text of 44 characters that is no key'],
    ['padding twice', `${KEY.toString('base64')}=`, 'a text of 45 characters that is no key'],
    ['both alphabets', `+_${'A'.repeat(41)}`, 'a text of 43 characters that is no key'],
    ['base64 with bits to spare', `${'A'.repeat(42)}B`, 'a text of 43 characters that is no key'],
    ['a number', 7, 'neither bytes nor a text'],
    ['null', null, 'neither bytes nor a text'],
    ['an ArrayBuffer', new ArrayBuffer(32), 'neither bytes nor a text'],
    ['other numbers', new Uint16Array(32).fill(1), 'neither bytes nor a text'],
    ['an array of bytes', [...KEY], 'neither bytes nor a text'],
  ])('refuses %s for a key', (_what, item, shape) => {
    const fix = 'use 32 random bytes, or a text of them in hex, base64 or base64url';
    expect(problemOf([OTHER, item])).toBe(`key 2 of 2 is ${shape}: ${fix}`);
  });

  it('refuses a hole in the array', () => {
    const holed: unknown[] = [KEY];
    holed[2] = OTHER;
    expect(problemOf(holed)).toMatch(/^key 2 of 3 is neither bytes nor a text/);
  });

  it('refuses a key of zeros, in whatever form', () => {
    for (const form of FORMS) {
      expect(problemOf([form(Buffer.alloc(32))])).toMatch(/^key 1 of 1 is all zeros: /);
    }
  });

  it('refuses the same key twice, in whatever form', () => {
    for (const form of FORMS) {
      expect(problemOf([OTHER, KEY, form(KEY)])).toBe('key 3 of 3 is the same as key 2: name each key once');
    }
  });

  it('never throws, and never shows what it was given', () => {
    // Too short to be a key by chance.
    const text = fc.stringMatching(/^[g-z]{12,40}$/);
    fc.assert(
      fc.property(fc.array(text, { minLength: 1, maxLength: 4 }), (texts) => {
        const problem = problemOf([KEY.toString('hex'), ...texts]);
        for (const given of [...texts, KEY.toString('hex')])
          expect(problem).not.toContain(given.slice(0, 10));
      }),
    );
    fc.assert(
      fc.property(fc.anything(), (value) => {
        expect(problemOf(value)).not.toBe('');
        expect(problemOf([value])).not.toBe('');
      }),
    );
  });
});
