import { randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SEAL_OVERHEAD_BYTES, type SealContext, SealError, Sealer } from './sealer.js';

const KEY = Buffer.from(Array.from({ length: 32 }, (_, index) => index));
const KEY_HASH = Buffer.alloc(32, 0xab);
const CONTEXT: SealContext = { keyHash: KEY_HASH, purpose: 'response' };

/** Sealed by another implementation: `receipt 7` under KEY, as step `charge` of the record KEY_HASH. */
const KNOWN = Buffer.from(
  '01' + // version
    '915fac80' + // key id
    '6465666768696a6b6c6d6e6f' + // nonce
    '9c914f652aa3fdc312' + // ciphertext
    '3aea94caa9436699f1902f292356226e', // tag
  'hex',
);

const bytes = (constraints: fc.IntArrayConstraints = {}): fc.Arbitrary<Buffer> =>
  fc.uint8Array(constraints).map((array) => Buffer.from(array));
const key = bytes({ minLength: 32, maxLength: 32 });
const context: fc.Arbitrary<SealContext> = fc.record({
  keyHash: bytes({ maxLength: 40 }),
  purpose: fc.constantFrom('response', 'request', 'step'),
  name: fc.string({ unit: 'binary', maxLength: 8 }),
});

/** Why it does not open; `undefined` when it does. */
function refusal(sealer: Sealer, sealed: Uint8Array, where: SealContext): SealError['reason'] | undefined {
  try {
    sealer.open(sealed, where);
    return undefined;
  } catch (error) {
    if (error instanceof SealError) return error.reason;
    throw error;
  }
}

describe('Sealer', () => {
  it('opens what it sealed', () => {
    fc.assert(
      fc.property(key, bytes(), context, (master, plain, where) => {
        const sealer = new Sealer([master]);
        expect(sealer.open(sealer.seal(plain, where), where)).toEqual(plain);
      }),
    );
  });

  it('opens with another sealer of the same key, from a part of a larger buffer', () => {
    const sealed = new Sealer([KEY]).seal(Buffer.from('paid'), CONTEXT);
    const around = new Uint8Array([9, ...sealed, 9]);
    const opened = new Sealer([Buffer.from(KEY)]).open(around.subarray(1, -1), CONTEXT);
    expect(opened.toString()).toBe('paid');
  });

  it('adds version, key id, nonce and tag: 33 bytes', () => {
    const sealer = new Sealer([KEY]);
    expect(SEAL_OVERHEAD_BYTES).toBe(1 + 4 + 12 + 16);
    for (const length of [0, 1, 16, 100_000]) {
      const sealed = sealer.seal(Buffer.alloc(length), CONTEXT);
      expect(sealed.byteLength).toBe(length + SEAL_OVERHEAD_BYTES);
      expect(sealed.subarray(0, 5).toString('hex')).toBe('01915fac80');
    }
  });

  it('opens what another implementation of the format sealed', () => {
    const where: SealContext = { keyHash: KEY_HASH, purpose: 'step', name: 'charge' };
    expect(new Sealer([KEY]).open(KNOWN, where).toString()).toBe('receipt 7');
  });

  it('seals the same value differently every time', () => {
    const sealer = new Sealer([KEY]);
    const nonces = new Set<string>();
    const ciphertexts = new Set<string>();
    for (let turn = 0; turn < 200; turn += 1) {
      const sealed = sealer.seal(Buffer.alloc(20), CONTEXT);
      nonces.add(sealed.subarray(5, 17).toString('hex'));
      ciphertexts.add(sealed.subarray(17, -16).toString('hex'));
    }
    expect([nonces.size, ciphertexts.size]).toEqual([200, 200]);
  });

  it('refuses any change of any byte', () => {
    const sealer = new Sealer([KEY]);
    const sealed = sealer.seal(Buffer.from('paid'), CONTEXT);
    for (let at = 0; at < sealed.byteLength; at += 1) {
      const isKeyId = at >= 1 && at < 5;
      for (let flip = 1; flip < 256; flip += 1) {
        const changed = Buffer.from(sealed);
        changed[at] = sealed.readUInt8(at) ^ flip;
        const reason = refusal(sealer, changed, CONTEXT);
        if (reason !== (isKeyId ? 'unknown-key' : 'damaged')) expect.fail(`byte ${at} ^ ${flip}: ${reason}`);
      }
    }
  });

  it('refuses a value that was cut short or has bytes added', () => {
    const sealer = new Sealer([KEY]);
    const sealed = sealer.seal(Buffer.from('paid'), CONTEXT);
    for (let length = 0; length < sealed.byteLength; length += 1) {
      expect(refusal(sealer, sealed.subarray(0, length), CONTEXT)).toBe('damaged');
      if (length > 0) expect(refusal(sealer, sealed.subarray(length), CONTEXT)).toBeDefined();
    }
    expect(refusal(sealer, Buffer.concat([sealed, Buffer.of(0)]), CONTEXT)).toBe('damaged');
  });

  it('refuses bytes that nobody sealed', () => {
    const sealer = new Sealer([KEY]);
    fc.assert(
      fc.property(bytes({ maxLength: 80 }), (noise) => {
        expect(refusal(sealer, noise, CONTEXT)).toBeDefined();
        const named = Buffer.concat([KNOWN.subarray(0, 5), noise]);
        expect(refusal(sealer, named, CONTEXT)).toBe('damaged');
      }),
    );
  });

  it('opens in no other record, purpose or step', () => {
    const sealer = new Sealer([KEY]);
    // From few values, so that two contexts often differ in one part alone, or in none.
    const near: fc.Arbitrary<SealContext> = fc.record({
      keyHash: fc.constantFrom('', '6100', '61006200').map((hex) => Buffer.from(hex, 'hex')),
      purpose: fc.constantFrom('response', 'request', 'step'),
      name: fc.constantFrom('', 'a', 'b', 'ab'),
    });
    const any = fc.oneof(near, near, context);
    fc.assert(
      fc.property(any, any, (a, b) => {
        const same = a.keyHash.equals(b.keyHash) && a.purpose === b.purpose && a.name === b.name;
        const sealed = sealer.seal(Buffer.from('paid'), a);
        expect(refusal(sealer, sealed, b)).toBe(same ? undefined : 'damaged');
      }),
      { numRuns: 500 },
    );
  });

  it.each<[string, SealContext, SealContext]>([
    ['record', CONTEXT, { ...CONTEXT, keyHash: Buffer.alloc(32, 0xac) }],
    ['purpose', CONTEXT, { ...CONTEXT, purpose: 'request' }],
    ['step', { ...CONTEXT, purpose: 'step', name: 'a' }, { ...CONTEXT, purpose: 'step', name: 'b' }],
    ['step, when one has no name', { ...CONTEXT, name: 'a' }, CONTEXT],
    ['step, by a lone surrogate', { ...CONTEXT, name: '\ud800' }, { ...CONTEXT, name: '\udc00' }],
    [
      'record, where its bytes could be the name of the step',
      { purpose: 'step', keyHash: Buffer.from('61006200', 'hex'), name: '' },
      { purpose: 'step', keyHash: Buffer.from('6100', 'hex'), name: 'b' },
    ],
    // HMAC pads its key with zeros, so that these two derive one key: the context alone tells them apart.
    [
      'record, by a zero at its end',
      { ...CONTEXT, keyHash: Buffer.of(1) },
      { ...CONTEXT, keyHash: Buffer.of(1, 0) },
    ],
  ])('does not open with another %s', (_what, here, there) => {
    const sealer = new Sealer([KEY]);
    expect(refusal(sealer, sealer.seal(Buffer.from('paid'), here), there)).toBe('damaged');
    expect(refusal(sealer, sealer.seal(Buffer.from('paid'), there), here)).toBe('damaged');
  });

  it('takes a name left out for an empty one', () => {
    const sealer = new Sealer([KEY]);
    const sealed = sealer.seal(Buffer.from('paid'), CONTEXT);
    expect(sealer.open(sealed, { ...CONTEXT, name: '' }).toString()).toBe('paid');
  });

  it('seals with the first key and opens with all, until one is retired', () => {
    const keys = fc.uniqueArray(key, {
      minLength: 2,
      maxLength: 5,
      selector: (each) => each.toString('hex'),
    });
    fc.assert(
      fc.property(keys, bytes(), ([next, ...retired], plain) => {
        if (!next) return;
        const before = new Sealer(retired);
        const rotated = new Sealer([next, ...retired]);
        const old = before.seal(plain, CONTEXT);
        expect(rotated.open(old, CONTEXT)).toEqual(plain);
        const fresh = rotated.seal(plain, CONTEXT);
        expect(new Sealer([next]).open(fresh, CONTEXT)).toEqual(plain);
        expect(refusal(before, fresh, CONTEXT)).toBe('unknown-key');
        expect(refusal(new Sealer([next]), old, CONTEXT)).toBe('unknown-key');
      }),
    );
  });

  it('opens with either of two keys that share an id', () => {
    const numbered = (number: number): Buffer => {
      const master = Buffer.alloc(32);
      master.writeUInt32BE(number, 28);
      return master;
    };
    const [a, b] = [numbered(29_525), numbered(47_148)];
    const [byA, byB] = [a, b].map((each) => new Sealer([each]).seal(Buffer.from('paid'), CONTEXT));
    if (!byA || !byB) expect.unreachable();
    expect(byA.subarray(1, 5)).toEqual(byB.subarray(1, 5));
    const both = new Sealer([a, b]);
    expect([byA, byB].map((sealed) => both.open(sealed, CONTEXT).toString())).toEqual(['paid', 'paid']);
    expect(refusal(new Sealer([a]), byB, CONTEXT)).toBe('damaged');
  });

  it('says what to do, and nothing of keys or content', () => {
    const unknown = new SealError('unknown-key');
    expect(unknown.message).toMatch(/put the retired key back behind the current one/i);
    expect(new SealError('damaged').message).toMatch(/restore its record from a backup/i);
    const sealer = new Sealer([KEY]);
    const sealed = sealer.seal(Buffer.from('paid'), CONTEXT);
    let thrown: unknown;
    try {
      sealer.open(sealed, { ...CONTEXT, name: 'x' });
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(SealError);
    expect(thrown).toMatchObject({ name: 'SealError', reason: 'damaged' });
    expect((thrown as Error).cause).toBeUndefined();
    const shown = inspect([sealer, thrown], { depth: 10, showHidden: true });
    expect(shown).not.toMatch(/paid|00 01 02 03|00010203|abab/);
  });

  it('keeps its keys when the buffers they came in are wiped', () => {
    const given = randomBytes(32);
    const copy = Buffer.from(given);
    const sealer = new Sealer([given]);
    given.fill(0);
    const sealed = sealer.seal(Buffer.from('paid'), CONTEXT);
    expect(new Sealer([copy]).open(sealed, CONTEXT).toString()).toBe('paid');
  });

  it.each<[string, readonly Buffer[]]>([
    ['no keys', []],
    ['a key of 31 bytes', [Buffer.alloc(31, 1)]],
    ['a later key of 33 bytes', [KEY, Buffer.alloc(33, 1)]],
    ['an empty key', [Buffer.alloc(0)]],
  ])('is not made of %s', (_what, keys) => {
    expect(() => new Sealer(keys)).toThrow(TypeError);
  });
});
