import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Duration, durationMs } from './duration.js';

const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const unit = fc.constantFrom(...(Object.keys(UNITS) as (keyof typeof UNITS)[]));

describe('durationMs', () => {
  it.each([
    ['250ms', 250],
    ['30s', 30_000],
    ['5m', 300_000],
    ['24h', 86_400_000],
    ['7d', 604_800_000],
    ['1.5s', 1_500],
    ['0s', 0],
    [0, 0],
    [1_234, 1_234],
    [0.5, 0.5],
  ])('reads %o as %d ms', (value, milliseconds) => {
    expect(durationMs(value)).toBe(milliseconds);
  });

  it.each([
    '1 fortnight',
    '5 m',
    ' 5m',
    '5m ',
    '5M',
    '5min',
    '-1s',
    '+1s',
    '1e3ms',
    '.5s',
    '5.s',
    '1,5s',
    '0x10s',
    '5',
    'm',
    '',
    '5m5s',
    '5m\n',
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    -1,
    -0.001,
    null,
    undefined,
    true,
    5n,
    [5],
    { valueOf: () => 5 },
    new Date(5),
  ])('takes %o for no duration', (value) => {
    expect(durationMs(value)).toBeUndefined();
  });

  it('multiplies any number with its unit', () => {
    fc.assert(
      fc.property(fc.nat(), unit, (count, name) => {
        expect(durationMs(`${count}${name}` satisfies Duration)).toBe(count * UNITS[name]);
      }),
    );
  });

  it('takes the same span in any unit for the same', () => {
    fc.assert(
      fc.property(fc.nat({ max: 100_000 }), (count) => {
        expect(durationMs(`${count}d`)).toBe(durationMs(`${count * 24}h`));
        expect(durationMs(`${count}h`)).toBe(durationMs(`${count * 60}m`));
        expect(durationMs(`${count}m`)).toBe(durationMs(`${count * 60}s`));
        expect(durationMs(`${count}s`)).toBe(durationMs(count * 1_000));
      }),
    );
  });

  it('answers a finite number, zero or above, or undefined, for whatever it gets', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.anything(), fc.string(), fc.double(), fc.stringMatching(/^[-\d. emsh]+$/)),
        (value) => {
          const result = durationMs(value);
          if (result !== undefined) {
            expect(Number.isFinite(result)).toBe(true);
            expect(result).toBeGreaterThanOrEqual(0);
          }
        },
      ),
    );
  });
});
