import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { keyHash } from './key-hash.js';

describe('keyHash', () => {
  it('is the SHA-256 of the three parts, each after its length', () => {
    const bytes = Buffer.concat([
      Buffer.from([0, 0, 0, 2]),
      Buffer.from('ns'),
      Buffer.from([0, 0, 0, 3]),
      Buffer.from('ü1'),
      Buffer.from([0, 0, 0, 1]),
      Buffer.from('k'),
    ]);
    const expected = createHash('sha256').update(bytes).digest();
    expect(keyHash({ namespace: 'ns', scope: 'ü1', key: 'k' })).toEqual(expected);
  });

  it('differs whenever a part differs, wherever the text is cut', () => {
    const parts = fc.record({ namespace: fc.string(), scope: fc.string(), key: fc.string() });
    fc.assert(
      fc.property(parts, parts, (a, b) => {
        const same = a.namespace === b.namespace && a.scope === b.scope && a.key === b.key;
        expect(keyHash(a).equals(keyHash(b))).toBe(same);
      }),
    );
    const cut = ['abc', 'ab', 'a', ''].map((scope) =>
      keyHash({ namespace: '', scope, key: 'abc'.slice(scope.length) }),
    );
    expect(new Set(cut.map((hash) => hash.toString('hex'))).size).toBe(4);
  });

  it('tells scopes apart that UTF-8 would make one', () => {
    const of = (scope: string): string => keyHash({ namespace: '', scope, key: 'k' }).toString('hex');
    expect(new Set([of('\ud800'), of('\udc00'), of('\ufffd')]).size).toBe(3);
  });
});
