import { describe, expect, it } from 'vitest';
import { FinishedKeys } from './finished-keys.js';

const keyHash = (number: number): Buffer => Buffer.from(`key hash ${number}`);

describe('FinishedKeys', () => {
  it('remembers a key until it is told otherwise', () => {
    const finished = new FinishedKeys();
    expect(finished.has(keyHash(1))).toBe(false);
    finished.add(keyHash(1));
    expect(finished.has(keyHash(1))).toBe(true);
    expect(finished.has(keyHash(2))).toBe(false);
    finished.delete(keyHash(1));
    expect(finished.has(keyHash(1))).toBe(false);
  });

  it('remembers 10,000 keys, and forgets the one that was asked for longest ago', () => {
    const finished = new FinishedKeys();
    for (let number = 0; number < 10_000; number++) finished.add(keyHash(number));
    // Asked for, and added once more: neither is the oldest any more.
    expect(finished.has(keyHash(0))).toBe(true);
    finished.add(keyHash(1));
    finished.add(keyHash(10_000));
    finished.add(keyHash(10_001));
    expect([0, 1, 2, 3, 4, 10_001].map((number) => finished.has(keyHash(number)))).toEqual([
      true,
      true,
      false,
      false,
      true,
      true,
    ]);
  });
});
