import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type DownstreamKeyParts, downstreamKeyOf } from './downstream-key.js';

const PARTS: DownstreamKeyParts = { keyHash: Buffer.alloc(32, 7), born: '1764000000000000', name: 'charge' };

const anyParts: fc.Arbitrary<DownstreamKeyParts> = fc.record({
  keyHash: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes)),
  born: fc.bigInt({ min: 0n, max: 10n ** 17n }).map(String),
  name: fc.string({ unit: 'binary', minLength: 1 }),
});

describe('downstreamKeyOf', () => {
  it('stays the same from release to release', () => {
    expect(downstreamKeyOf(PARTS)).toBe('fb3b2f76-7f59-8fcf-b17f-ba467fac1986');
  });

  it('is a UUID of version 8, the same for the same parts', () => {
    fc.assert(
      fc.property(anyParts, (parts) => {
        const key = downstreamKeyOf(parts);
        expect(key).toMatch(/^[\da-f]{8}-[\da-f]{4}-8[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
        expect(downstreamKeyOf({ ...parts, keyHash: Buffer.from(parts.keyHash) })).toBe(key);
      }),
    );
  });

  it.each<[string, Partial<DownstreamKeyParts>]>([
    ['record', { keyHash: Buffer.alloc(32, 8) }],
    ['life of the record', { born: '1764000000000001' }],
    ['name', { name: 'refund' }],
    ['name in another case', { name: 'Charge' }],
    ['name with a blank', { name: 'charge ' }],
  ])('is another one for another %s', (_what, other) => {
    expect(downstreamKeyOf({ ...PARTS, ...other })).not.toBe(downstreamKeyOf(PARTS));
  });

  it('is another one wherever parts differ: they do not run together', () => {
    fc.assert(
      fc.property(anyParts, fc.integer({ min: 1, max: 15 }), (parts, length) => {
        const digits = parts.born.slice(-length);
        const moved = { ...parts, born: parts.born.slice(0, -length), name: `${digits}\0${parts.name}` };
        expect(downstreamKeyOf(moved)).not.toBe(downstreamKeyOf(parts));
      }),
    );
  });

  it.each([[''], [undefined], [null], [5]])('takes a name, not %o', (name) => {
    expect(() => downstreamKeyOf({ ...PARTS, name: name as string })).toThrow(
      new TypeError('downstreamKey() takes a name'),
    );
  });
});
