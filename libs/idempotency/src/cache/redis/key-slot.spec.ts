import { describe, expect, it } from 'vitest';
import { slotOf } from './key-slot.js';

describe('the slot of a key', () => {
  // The first is the check value of CRC-16/XMODEM, 0x31C3; the others were answered by CLUSTER KEYSLOT.
  it.each([
    ['123456789', 0x31_c3],
    ['foo', 12_182],
    ['bar', 5_061],
    ['hello', 866],
  ])('is the one that a cluster has: %s', (key, slot) => {
    expect(slotOf(key)).toBe(slot);
  });

  it('is below 16384 for every key, and spread', () => {
    const slots = Array.from({ length: 5_000 }, (_, number) => slotOf(`idem:${number}`));
    expect(slots.every((slot) => Number.isInteger(slot) && slot >= 0 && slot < 16_384)).toBe(true);
    expect(new Set(slots.map((slot) => slot >> 10)).size).toBe(16);
  });
});
