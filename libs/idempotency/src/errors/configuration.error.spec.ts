import { describe as group, expect, it } from 'vitest';
import { IdempotencyConfigurationError } from './configuration.error.js';
import { describe } from './describe.js';

group('IdempotencyConfigurationError', () => {
  it('names the option, what was received, and the fix', () => {
    const error = new IdempotencyConfigurationError({
      option: 'ttl',
      received: '1 day',
      fix: "Write '24h'.",
    });
    expect(error).toMatchObject({
      name: 'IdempotencyConfigurationError',
      option: 'ttl',
      message: "ttl: received '1 day'. Write '24h'.",
    });
  });
});

group('describe', () => {
  it.each([
    ['5', "'5'"],
    [5, '5'],
    [-0, '-0'],
    [undefined, 'undefined'],
    [null, 'null'],
    [1n, '1n'],
    [{ a: { b: { c: 1 } } }, '{ a: { b: [Object] } }'],
    [parseInt, 'function parseInt'],
    [() => 1, 'a function'],
    [Date, 'function Date'],
  ])('writes %o as %s', (value, text) => {
    expect(describe(value)).toBe(text);
  });

  it('stays on one short line', () => {
    const text = describe({ long: 'x'.repeat(1000), more: [...Array(100).keys()] });
    expect(text.length).toBeLessThanOrEqual(81);
    expect(text).not.toContain('\n');
  });
});
